"""Machines with a network and a disk of their own: what happens to one does not show in the work of the others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_files import ct_series
from fleet_site import FleetSite, Scanner, associate, fleet_site, start, store
from lesion_studies import with_lesion
from pydicom.dataset import Dataset

from node.ledger.tables import circuit, delivery, instance, job, refusal, result, series

COMPLETE_SECONDS = 60.0
"""Where the processors have time for it."""
pytestmark = pytest.mark.skipif("AINODE_FLEET" not in os.environ, reason="takes minutes; AINODE_FLEET is not set")

HOUR = 3600.0
ROLES = ("worker", "files", "receiver", "sender", "router", "web")
SLICES = 6


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetSite]:
    with fleet_site(tmp_path_factory.mktemp("fleet"), ("a", "b", "c")) as made:
        yield made


def study() -> list[Dataset]:
    return list(ct_series(volume=with_lesion((SLICES, 32, 32))))


def uids(images: list[Dataset]) -> set[str]:
    return {str(image.SOPInstanceUID) for image in images}


def wait_until_delivered(site: FleetSite, studies: int, seconds: float = 240.0) -> None:
    """Until so many studies were analysed, and everything is delivered."""
    site.until(lambda: [row.state for row in site.rows(job)] == ["COMPLETED"] * studies, seconds)


def check_all_whole(site: FleetSite, received: set[str]) -> None:
    """Every image is in the ledger, every series is one generation with findings, every result is once in the PACS."""
    jobs = site.rows(job)
    assert {row.sop_instance_uid for row in site.rows(instance)} == received
    assert {(row.outcome, row.generation) for row in jobs} == {("findings", 1)}
    assert {row.generation for row in site.rows(series)} == {1}
    assert {row.job_id for row in site.rows(result)} == {row.id for row in jobs}
    assert set(site.held()) == {row.sop_instance_uid for row in site.rows(result)}


@pytest.mark.timeout(900)
def test_roles_start_and_stop_on_one_machine_and_nothing_is_refused_or_fails_on_the_other(site: FleetSite) -> None:
    a, b, c = site.machines
    start(c, "files")
    start(a)
    a.wait_until_ready()
    sent: set[str] = set()

    def studies() -> Iterator[list[Dataset]]:
        while True:
            images = study()
            sent.update(uids(images))
            yield images

    source = studies()
    scanner = Scanner(a, source, pause_seconds=6.0)
    scanner.start()
    try:
        start(b, *ROLES)
        b.wait_until_ready()
        assert store(b, study_of_b := next(source)) == [0] * SLICES
        for role in ROLES:
            time.sleep(6.0)
            assert b.stop(role) == {role: 0}
    finally:
        scanner.end()
    assert set(scanner.statuses) == {0}
    wait_until_delivered(site, scanner.studies + 1)
    check_all_whole(site, sent)
    assert uids(study_of_b) < sent
    assert site.rows(refusal) == []
    assert {row.attempt for row in site.rows(job)} == {0}, "no attempt has failed"


@pytest.mark.timeout(600)
def test_a_series_whose_receiver_loses_power_and_disk_is_complete_in_a_minute_and_its_result_reaches_the_pacs(
    site: FleetSite,
) -> None:
    """It dies between two images, its packets vanish, and nobody has asked for anything on its disk."""
    a, b, c = site.machines
    if not a.is_on:
        start(c, "files")
        start(a)
        a.wait_until_ready()
    earlier, jobs = {row.sop_instance_uid for row in site.rows(instance)}, len(site.rows(job))
    start(b)
    b.wait_until_ready()
    images = study()
    sender = associate(a, images)
    for image in images[: SLICES // 2]:
        assert sender.send_c_store(image).Status == 0x0000
    a.destroy_disk()
    lost_at = time.monotonic()
    sender.abort()
    assert store(b, images[SLICES // 2 :]) == [0] * (SLICES - SLICES // 2)
    study_uid = str(images[0].StudyInstanceUID)

    def is_complete() -> bool:
        of_study = [row for row in site.rows(series) if row.study_instance_uid == study_uid]
        return [(row.state, row.instances) for row in of_study] == [("COMPLETE", SLICES)]

    site.until(is_complete, 240.0)
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.monotonic() - lost_at < COMPLETE_SECONDS * busy
    wait_until_delivered(site, jobs + 1)
    check_all_whole(site, earlier | uids(images))


@pytest.mark.timeout(600)
def test_machines_whose_clocks_are_an_hour_behind_and_ahead_make_one_generation_and_keep_every_delay(
    tmp_path: Path,
) -> None:
    with fleet_site(tmp_path, ("a", "b")) as site:
        a, b = site.machines
        for machine in site.machines:
            text = machine.config.read_text().replace("first_retry_seconds = 0.5", "first_retry_seconds = 5.0")
            machine.config.write_text(text.replace("max_retry_seconds = 1.0", "max_retry_seconds = 5.0"))
        start(a, clock_seconds=-HOUR)
        a.wait_until_ready()
        start(b, clock_seconds=HOUR)
        b.wait_until_ready()
        site.pacs.stop()
        images = study()
        for index, image in enumerate(images):
            assert store((a, b)[index % 2], [image]) == [0]
        site.until(lambda: [row.attempt for row in site.rows(delivery)] == [1], 240.0)
        begun = time.monotonic()
        # After three failures in a row, with a delay of 5 s between them, the delivery waits for a probe.
        site.until(lambda: [row.opened_at is not None for row in site.rows(circuit)] == [True], 240.0)
        assert time.monotonic() - begun > 9.0
        site.pacs.start()
        wait_until_delivered(site, 1)
        check_all_whole(site, uids(images))

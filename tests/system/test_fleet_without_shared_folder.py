"""Machines with a storage folder each, one ledger and a real PACS: what one receives, another analyses and delivers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest
import real_peers
import sqlalchemy as sa
from certificates import Authority
from dicom_files import ct_series, write
from fleet_nodes import FleetNode
from lesion_studies import SR3D, store, with_lesion
from pydicom.uid import CTImageStorage, SegmentationStorage
from receivers import until

from node.config import parse
from node.ledger.engine import open_ledger
from node.ledger.tables import job

pytestmark = pytest.mark.rotating

Make = Callable[[str], FleetNode]
_WHOLE = Counter({SegmentationStorage: 1, SR3D: 1, CTImageStorage: 6})


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path, postgres_server: str) -> str:
    return postgres.new_database(postgres_server, "nodes" + tmp_path.name[-40:].lower())


@pytest.fixture
def machine(tmp_path: Path, ledger: str, pacs: real_peers.Orthanc) -> Iterator[Make]:
    authority, made = Authority(tmp_path / "authority"), []

    def make(name: str) -> FleetNode:
        made.append(FleetNode(tmp_path, name, ledger, authority, ("ORTHANC", pacs.dicom_port)))
        return made[-1]

    yield make
    for node in made:
        node.power_off()


def jobs(ledger: str) -> list[sa.Row[tuple[object, ...]]]:
    engine = open_ledger(ledger)
    try:
        with engine.connect() as connection:
            return list(connection.execute(sa.select(job)))
    finally:
        engine.dispose()


def held(pacs: real_peers.Orthanc) -> Counter[str]:
    return Counter(str(pacs.download(uid).SOPClassUID) for uid in pacs.instances())


@pytest.mark.timeout(300)
def test_what_one_machine_receives_another_analyses_and_delivers(
    machine: Make, pacs: real_peers.Orthanc, ledger: str, tmp_path: Path
) -> None:
    a, b = machine("a"), machine("b")
    a.start("receiver", "router", "files")
    b.start("worker", "sender", "files")
    write(ct_series(volume=with_lesion()), tmp_path / "series")
    store(a, tmp_path / "series")
    until(lambda: [row.state for row in jobs(ledger)] == ["COMPLETED"], 120.0)
    assert held(pacs) == _WHOLE
    assert (b.files("incoming"), a.files("results")) == ([], [])
    assert (len(a.files("incoming")), len(b.files("results"))) == (6, 8)
    for node, elsewhere in ((a, 8), (b, 6)):
        verified = node.ainode("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert f"{elsewhere} of them on other machines only" in verified.stdout
    assert "files" in a.ainode("fleet").stdout


@pytest.mark.timeout(300)
def test_what_one_machine_publishes_all_processes_of_all_read_and_one_that_cannot_says_why(machine: Make) -> None:
    a, b, c = machine("a"), machine("b"), machine("c")
    _replace(c, '"bright_pipeline:create"', '"other_pipeline:create"')
    for node in (a, b, c):
        node.start("router")
    _replace(a, '"everything with a grid"', '"all with a grid"')
    _replace(a, "quiet_seconds = 2.0", "quiet_seconds = 3.0")
    _replace(a, "[jobs]", "[retention]\ndays = 3.0\n[jobs]")
    published = a.ainode("config publish", "--yes", "--reason", "slow scanners")
    assert "series.quiet_seconds: - -> 3.0\n" in published.stdout, published.stderr
    until(lambda: "all with a grid" in b.config.read_text())
    until(lambda: b.log().count("configuration reloaded") == 1)
    until(lambda: b.log().count(" ready, process ") == 2)
    until(lambda: "is not taken over" in c.log())
    taken, refused = parse(b.config.read_text()), parse(c.config.read_text())
    assert (taken.series.quiet_seconds, taken.retention.days, taken.series.gap_seconds) == (3.0, 3.0, 4.0)
    assert (taken.fleet, refused.series.quiet_seconds) != (parse(a.config.read_text()).fleet, 3.0)
    listed = a.ainode("fleet").stdout
    assert 'pipelines.bright.factory = "bright_pipeline:create", here "other_pipeline:create"' in listed
    assert "series.quiet_seconds: 2.0, 3.0" in listed
    assert "has version 1" in c.ainode("config take", "--yes").stdout
    until(lambda: "configuration reloaded" in c.log())
    assert parse(c.config.read_text()).series.quiet_seconds == 3.0


def _replace(of: FleetNode, old: str, new: str) -> None:
    text = of.config.read_text()
    assert old in text
    of.config.write_text(text.replace(old, new))


@pytest.mark.timeout(300)
def test_a_series_that_two_machines_receive_is_whole_for_any_worker(
    machine: Make, pacs: real_peers.Orthanc, ledger: str, tmp_path: Path
) -> None:
    a, b = machine("a"), machine("b")
    a.start("receiver", "files", "worker")
    b.start("receiver", "files", "worker", "router", "sender")
    for number in range(3):
        series = ct_series(volume=with_lesion())
        write(series[:3], tmp_path / f"{number}" / "a")
        write(series[3:], tmp_path / f"{number}" / "b")
        store(a, tmp_path / f"{number}" / "a")
        store(b, tmp_path / f"{number}" / "b")
    until(lambda: [row.state for row in jobs(ledger)] == ["COMPLETED"] * 3, 180.0)
    assert {row.outcome for row in jobs(ledger)} == {"findings"}
    assert held(pacs) == Counter({uid: 3 * number for uid, number in _WHOLE.items()})
    assert "no usable handover" not in a.log() + b.log()


@pytest.mark.timeout(300)
def test_a_job_waits_for_the_machine_that_has_its_images_and_does_not_fail(
    machine: Make, pacs: real_peers.Orthanc, ledger: str, tmp_path: Path
) -> None:
    a, b = machine("a"), machine("b")
    a.start("receiver", "router", "files")
    write(ct_series(volume=with_lesion()), tmp_path / "series")
    store(a, tmp_path / "series")
    until(lambda: len(jobs(ledger)) == 1)
    a.power_off()
    b.start("worker", "sender", "files")
    until(lambda: "whose file service does not answer" in str(jobs(ledger)[0].error), 90.0)
    a.start("files")
    until(lambda: [row.state for row in jobs(ledger)] == ["COMPLETED"], 150.0)
    assert held(pacs) == _WHOLE

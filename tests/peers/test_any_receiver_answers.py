"""Receivers behind one address: a modality that reaches another machine than before is answered as by the same one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import scanner
from certificates import Authority
from dicom_files import ct_series
from fleet_machines import FleetMachine
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel
from receivers import associate, send_dataset, until

from node.config import Ae
from node.ledger.tables import commitment, instance, procedure_step
from node.receive.sender_quota import FRESH_SECONDS

COMMITMENT = [(StorageCommitmentPushModel, ExplicitVRLittleEndian)]


@pytest.fixture
def machines(tmp_path: Path, postgres_server: str) -> Iterator[list[FleetMachine]]:
    authority = Authority(tmp_path / "authority")
    url = postgres.new_database(postgres_server, "any" + tmp_path.name[-40:].lower())
    both = [FleetMachine(tmp_path / name, url, authority) for name in ("a", "b")]
    callers = ({"title": "PEER"}, {"title": "CT1"}, {"title": "SMALL", "quota_gib": 10_000 / 2**30})
    for machine in both:
        ae = Ae.model_validate({"address": "127.0.0.1", "port": machine.port, "callers": callers})
        machine.config = machine.config.model_copy(update={"ae": ae})
        machine.serve()
    with both[0].receiving(), both[1].receiving():
        yield both
    for machine in both:
        machine.close()


def send(machine: FleetMachine, images: list[Dataset]) -> None:
    peer = associate(machine, [(CTImageStorage, ExplicitVRLittleEndian)])
    assert [send_dataset(peer, image).Status for image in images] == [0x0000] * len(images)
    peer.release()


def report(machine: FleetMachine, images: list[Dataset]) -> tuple[set[str], set[str]]:
    """Ask a machine to commit to images: which it does, and which it does not."""
    reports: list[Dataset] = []

    def reported(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        return 0x0000, None

    peer = associate(machine, COMMITMENT, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported)])
    assert scanner.ask(peer, scanner.names(images)) == 0x0000
    # Then the peer has answered and may leave.
    until(lambda: {row.state for row in machine.rows(commitment)} == {"COMPLETED"})
    peer.release()
    committed, failed = (
        {str(item.ReferencedSOPInstanceUID) for item in reports[0].get(name, ())}
        for name in ("ReferencedSOPSequence", "FailedSOPSequence")
    )
    return committed, failed


def test_a_machine_commits_to_images_that_another_one_has_and_to_none_that_is_gone(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    images = ct_series(4)
    send(a, images[:2])
    send(b, images[2:])
    until(lambda: len(b.rows(instance)) == len(images))
    uids = {str(image.SOPInstanceUID) for image in images}
    assert report(b, images) == report(a, images) == (uids, set())
    uid = str(images[0].SOPInstanceUID)
    (path,) = [row.path for row in a.rows(instance) if row.sop_instance_uid == uid]
    b.spool.absolute(path).unlink()
    assert report(b, images) == (uids, set())
    a.spool.absolute(path).unlink()
    assert report(b, images) == report(a, images) == (uids - {uid}, {uid})


def test_a_procedure_step_that_begins_at_one_machine_ends_at_another(machines: list[FleetMachine]) -> None:
    a, b = machines
    images = ct_series(2, study=generate_uid())
    response, uid = scanner.begin(a, str(images[0].StudyInstanceUID))
    assert response.Status == 0x0000
    send(b, images)
    assert scanner.say(b, str(uid), "COMPLETED", images).Status == 0x0000
    [step] = a.rows(procedure_step)
    assert (step.sop_instance_uid, step.state) == (uid, "COMPLETED")
    assert scanner.say(a, str(uid), "IN PROGRESS").Status == 0x0110  # it has ended, also here


def test_what_a_caller_has_stored_at_one_machine_counts_for_its_quota_at_another(machines: list[FleetMachine]) -> None:
    a, b = machines
    context = [(CTImageStorage, ExplicitVRLittleEndian)]
    images = ct_series(6)
    peer = associate(a, context, calling="SMALL")
    assert [send_dataset(peer, image).Status for image in images[:4]] == [0x0000] * 3 + [0xA700]
    peer.release()
    until(lambda: len(b.rows(instance)) == 3)
    peer = associate(b, context, calling="SMALL")
    assert send_dataset(peer, images[4]).Status == 0xA700
    peer.release()
    send(b, images[5:])  # another caller is not concerned


def test_the_page_says_how_old_the_sum_of_a_quota_may_be() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs/connect.md").read_text().split())
    assert f"as of up to {FRESH_SECONDS:g} s ago" in page

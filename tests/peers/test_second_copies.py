"""Two copies before Success: what a receiver acknowledges is durable on two machines, or it is refused."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from certificates import Authority
from dicom_files import ct_series
from fleet_machines import FleetMachine
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import associate, send_dataset, until

from node.errors import NotFoundError
from node.fleet import file_client
from node.fleet.copy_repair import CopyRepair
from node.fleet.housekeeping import Housekeeping
from node.ledger.engine import begin_immediate
from node.ledger.holdings import RecordedFile
from node.ledger.missing_copies import count_missing_copies, record_missing_copies, record_results_held
from node.ledger.tables import conflict, event, holding, instance, job, member, result
from node.operate.alerts import ledger_alerts
from node.operate.fleet import abandon_machine
from node.operate.purge import Retention
from node.operate.verify_copies import verify_copies
from node.spool import StoredFile
from node.spool.tiers import Content
from node.web.probes import faults_of

CT = [(CTImageStorage, ExplicitVRLittleEndian)]
WITHOUT_COPIES = "no other machine takes second copies; images are refused"


@pytest.fixture
def machines(
    tmp_path: Path, postgres_server: str, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[list[FleetMachine]]:
    url = postgres.new_database(postgres_server, "copies" + tmp_path.name[-40:].lower())
    missing = getattr(request, "param", "refuse")
    both = [FleetMachine(tmp_path / name, url, authority, copies=2, copies_missing=missing) for name in ("a", "b")]
    yield both
    for machine in both:
        machine.close()


accepting = pytest.mark.parametrize("machines", ["accept"], indirect=True)


def missing(machine: FleetMachine) -> int:
    with machine.engine.connect() as connection:
        return count_missing_copies(connection).files


def links(machine: FleetMachine) -> int:
    return sum(path.is_file() for path in (machine.spool.folder / "temporary").rglob("*"))


def send(machine: FleetMachine, images: list, calling: str = "CT") -> list[tuple[int, str]]:
    sender = associate(machine, CT, calling=calling)  # type: ignore[arg-type]
    answers = [send_dataset(sender, image) for image in images]
    sender.release()
    return [(answer.Status, str(answer.ErrorComment or "")) for answer in answers]


def not_ready(machine: FleetMachine) -> list[str]:
    """Why its ``/readyz`` answers 503."""
    return faults_of(machine.config, machine.engine, machine.spool)


def take(machine: FleetMachine, images: int) -> None:
    """Have a machine acknowledge so many images and record them."""
    with machine.receiving():
        assert send(machine, ct_series(images)) == [(0x0000, "")] * images
        until(lambda: len(machine.rows(instance)) == images)


def test_an_acknowledged_image_is_on_both_machines_with_the_same_bytes(machines: list[FleetMachine]) -> None:
    a, b = machines
    b.serve()
    with a.receiving():
        assert send(a, ct_series(6)) == [(0x0000, "")] * 6
        paths = a.spool.files("incoming")
        assert len(paths) == 6
        assert b.spool.files("incoming") == paths
        assert WITHOUT_COPIES not in not_ready(a)
        for path in paths:
            assert a.spool.absolute(path).read_bytes() == b.spool.absolute(path).read_bytes()
        until(lambda: len(a.rows(instance)) == 6)
    assert {row.machine for row in a.rows(holding)} == {a.spool.machine, b.spool.machine}
    assert missing(a) == 0
    assert links(b) == 6
    b.copies.pending.look()
    assert links(b) == 0


def test_an_image_without_a_second_copy_is_refused_with_the_reason(machines: list[FleetMachine]) -> None:
    a, _ = machines
    with a.receiving():
        [(status, comment)] = send(a, ct_series(1))
        assert (status, comment) == (0xA700, "no second copy: no other machine takes it")
        assert WITHOUT_COPIES in not_ready(a)
    assert a.spool.files("incoming") == a.rows(instance) == []


def test_a_full_disk_of_the_other_machine_is_a_refusal_with_the_reason(machines: list[FleetMachine]) -> None:
    a, b = machines
    storage = b.config.storage.model_copy(update={"min_free_gib": 1e6})
    b.config = b.config.model_copy(update={"storage": storage})
    b.serve()
    with a.receiving():
        [(status, comment)] = send(a, ct_series(1))
    assert status == 0xA700
    assert comment.startswith("no second copy: its disk is full: ")
    assert a.spool.files("incoming") == b.spool.files("incoming") == []


@accepting
def test_an_image_with_one_copy_is_accepted_where_that_is_configured_and_recorded_as_such(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    with a.receiving():
        assert send(a, ct_series(2)) == [(0x0000, "")] * 2
        until(lambda: missing(a) == 2)
        assert WITHOUT_COPIES not in not_ready(a)
    never = threading.Event()
    a.serve()
    assert CopyRepair(a.engine, a.spool).look(never) == 0, "there is nobody to copy to"
    with a.engine.connect() as connection:
        assert list(ledger_alerts(a.config, connection, time.time() + 120.0)) == ["copies"]
    b.serve()
    assert CopyRepair(b.engine, b.spool).look(never) == 2
    assert missing(a) == 0
    assert a.spool.files("incoming") == b.spool.files("incoming")
    for machine in machines:
        of = verify_copies(machine.engine, machine.spool)
        assert (of.copies, of.faults, of.pending) == ({2: 2}, 0, ())


def test_copies_are_counted_on_every_machine_and_what_is_wrong_is_named(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    b.serve()
    take(a, 4)
    first, second, third, fourth = a.spool.files("incoming")
    b.spool.absolute(first).unlink()
    b.spool.absolute(second).write_bytes(b"other")
    for machine in machines:
        of = verify_copies(machine.engine, machine.spool)
        assert (of.copies, sorted(of.missing)) == ({1: 2, 2: 2}, [first, second])
        assert of.corrupt == (f"{b.spool.machine} {second}",)
    b.end()
    of = verify_copies(a.engine, a.spool)
    assert (of.copies, sorted(of.missing)) == ({1: 4}, [first, second, third, fourth])
    assert of.unreachable == (b.spool.machine,)


def test_copies_of_many_studies_are_counted_with_the_connections_and_statements_of_one(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    b.serve()
    done: list[str] = []
    sa.event.listen(a.engine, "before_cursor_execute", lambda *_of: done.append("statement"))
    wrap = ssl.SSLContext.wrap_socket

    def secured(context: ssl.SSLContext, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        done.append("connection")
        return wrap(context, *arguments, **named)

    costs = []
    for studies in (1, 5):
        with a.receiving():
            images = [image for number in range(studies) for image in ct_series(2, 16, study=f"1.2.{studies}.{number}")]
            assert send(a, images) == [(0x0000, "")] * len(images)
            until(lambda: len(a.rows(instance)) in (2, 12))
        with monkeypatch.context() as patch:
            patch.setattr(ssl.SSLContext, "wrap_socket", secured)
            done.clear()
            assert verify_copies(a.engine, a.spool).copies == {2: len(b.rows(instance))}
        costs.append(Counter(done))
    assert costs[0] == costs[1]
    assert costs[0]["connection"] == 1


@pytest.mark.parametrize("limit", ["_MOST_FILES", "_MOST_BYTES"])
def test_copies_are_counted_alike_when_a_machine_is_asked_for_them_in_parts(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    a, b = machines
    b.serve()
    take(a, 5)
    damaged, lost, *_ = a.spool.files("incoming")
    b.spool.absolute(damaged).write_bytes(b"rust")
    b.spool.absolute(lost).unlink()
    monkeypatch.setattr(file_client, limit, 2)
    of = verify_copies(a.engine, a.spool)
    assert (of.copies, sorted(of.missing), of.unreachable) == ({1: 2, 2: 3}, [damaged, lost], ())
    assert of.corrupt == (f"{b.spool.machine} {damaged}",)


def test_what_a_machine_said_before_it_failed_counts_and_the_rest_is_out_of_reach(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    b.serve()
    take(a, 5)
    divided = file_client._requests

    def cut_off(recorded: Mapping[str, Content]) -> Iterator[Mapping[str, Content]]:
        first, *rest = divided(recorded)
        yield first
        for part in rest:
            yield dict.fromkeys(part, RecordedFile(None, 1))  # type: ignore[arg-type]  # which is answered with 400

    monkeypatch.setattr(file_client, "_MOST_FILES", 2)
    monkeypatch.setattr(file_client, "_requests", cut_off)
    of = verify_copies(a.engine, a.spool)
    assert (of.copies, len(of.missing), of.unreachable) == ({1: 3, 2: 2}, 3, (b.spool.machine,))


def test_after_a_machine_is_abandoned_its_copies_are_made_on_another_one(
    machines: list[FleetMachine], tmp_path: Path, authority: Authority
) -> None:
    a, b = machines
    a.serve()
    b.serve()
    take(a, 3)
    with pytest.raises(NotFoundError):
        abandon_machine(a.engine, b.spool.machine)  # it runs
    b.end()
    assert abandon_machine(a.engine, b.spool.machine[:8]).folders == ()
    assert missing(a) == 3
    c = FleetMachine(tmp_path / "c", a.config.storage.ledger_url, authority, copies=2)
    c.serve()
    assert CopyRepair(c.engine, c.spool).look(threading.Event()) == 3
    assert verify_copies(c.engine, c.spool).copies == {2: 3}
    c.close()


def test_a_machine_of_which_some_processes_are_missed_already_is_not_half_abandoned(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    a.serve()
    b.serve()
    take(b, 2)
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.insert(member).values(**_receiver_of(b), state="lost"))
    with pytest.raises(NotFoundError, match="say it again in a minute"):
        abandon_machine(a.engine, b.spool.machine)
    b.end()
    assert abandon_machine(a.engine, b.spool.machine).receivers == 1
    assert missing(a) == 2
    assert {row.machine for row in a.rows(holding)} == {a.spool.machine}


def _receiver_of(machine: FleetMachine) -> dict[str, object]:
    of = dict.fromkeys(("version", "revision", "files_url", "copies_address"), "")
    empty: dict[str, object] = {"pipelines": [], "devices": [], "configuration": None}
    who = {"id": "receiver-1", "role": "receiver", "machine": machine.spool.machine, "host": "b/1/1", "pid": 1}
    return {**of, **empty, **who, "beat_at": 1.0, "began_at": 1.0}


def test_a_machine_says_again_what_it_holds_when_the_ledger_has_another_history(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    a.serve()
    b.serve()
    take(a, 2)
    housekeeping = Housekeeping(b.engine, b.spool, 1.0)
    housekeeping.step()
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.delete(holding))  # as on a replica that had not received it before it was promoted
    housekeeping.step()
    assert a.rows(holding) == []
    monkeypatch.setattr("node.fleet.housekeeping.timeline", lambda engine: "1/00000002")
    housekeeping.step()
    assert {row.machine for row in a.rows(holding)} == {b.spool.machine}


def test_a_file_that_cannot_be_fetched_keeps_no_other_from_its_second_copy(
    machines: list[FleetMachine], tmp_path: Path, authority: Authority
) -> None:
    a, b = machines
    a.serve()
    b.serve()
    take(a, 3)
    b.end()
    abandon_machine(a.engine, b.spool.machine)
    a.spool.absolute(a.rows(instance)[0].path).write_bytes(b"changed")
    c = FleetMachine(tmp_path / "c", a.config.storage.ledger_url, authority, copies=2)
    c.serve()
    assert CopyRepair(c.engine, c.spool).look(threading.Event()) == 2
    assert missing(a) == 1
    c.close()


@pytest.mark.parametrize(
    ("state", "told", "missed"), [("COMPLETED", "results lost", 0), ("IN PROGRESS", "job retried", 1)]
)
def test_results_that_only_an_abandoned_machine_had_are_made_again_or_not_missed_any_more(
    machines: list[FleetMachine], state: str, told: str, missed: int
) -> None:
    a, b = machines
    a.serve()
    b.serve()
    kept = b.spool.keep_result("1", "1.2.3", b"result")
    of = {"id": "1", "study_instance_uid": "1.1", "series_instance_uid": "1.1.1", "pipeline": "nodule", "rule": "chest"}
    of |= {"destinations": [], "state": state, "stage": "deliver", "outcome": "findings"}
    numbers = ("generation", "priority", "run", "attempt", "created_at", "updated_at")
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.insert(job).values(**of, **dict.fromkeys(numbers, 1)))
        connection.execute(sa.insert(result).values(**_result_row(kept), created_at=1.0))
        record_results_held(connection, b.spool.machine, 2, [kept.path])
    b.end()
    assert abandon_machine(a.engine, b.spool.machine).folders == ("results/1",)
    CopyRepair(a.engine, a.spool).look(threading.Event())
    assert missing(a) == missed, "until it is made again"
    assert [row.kind for row in a.rows(event)] == [told]
    assert bool(a.rows(job)[0].results_purged_at) == (state == "COMPLETED")


def _result_row(kept: StoredFile) -> dict[str, object]:
    row = dict.fromkeys(("sop_class_uid", "transfer_syntax_uid", "series_instance_uid", "description"), "")
    return row | {
        "sop_instance_uid": "1.2.3", "job_id": "1", "path": kept.path, "digest": kept.digest, "size": kept.size,
    }  # fmt: skip


@pytest.mark.parametrize("left", [b"result", b"another version"], ids=["same", "other"])
def test_a_result_that_a_lost_attempt_left_on_a_machine_counts_there_once_the_ledger_knows(
    machines: list[FleetMachine], tmp_path: Path, authority: Authority, left: bytes
) -> None:
    a, b = machines
    a.serve()
    b.serve()
    kept = a.spool.keep_result("1", "1.2.3", b"result")
    b.spool.keep_result("1", "1.2.3", left)
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.insert(result).values(**_result_row(kept), created_at=1.0))
        record_results_held(connection, a.spool.machine, 2, [kept.path])
    never = threading.Event()
    assert CopyRepair(b.engine, b.spool).look(never) == 1
    assert b.spool.absolute(kept.path).read_bytes() == b"result"
    a.end()
    assert abandon_machine(b.engine, a.spool.machine).folders == ()
    c = FleetMachine(tmp_path / "c", a.config.storage.ledger_url, authority, copies=2)
    c.serve()
    assert CopyRepair(c.engine, c.spool).look(never) == 1
    assert missing(b) == 0
    c.close()


def test_a_study_that_is_purged_leaves_no_copy_and_no_row(machines: list[FleetMachine]) -> None:
    a, b = machines
    b.serve()
    take(a, 2)
    b.copies.pending.look()
    with begin_immediate(a.engine) as connection:
        record_missing_copies(connection, a.spool.files("incoming"))
        connection.execute(sa.text("UPDATE series SET state = 'COMPLETE'"))
    assert len(Retention(a.config, a.engine, a.spool).step(time.time() + 15 * 86400.0)) == 1
    for machine in machines:
        Housekeeping(machine.engine, machine.spool, 1.0).step()
        assert machine.spool.files("incoming") == []
    assert a.rows(holding) == a.rows(instance) == []
    assert missing(a) == 0


def test_a_connection_that_breaks_within_an_image_costs_nothing(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    b.serve()
    with a.receiving():
        assert send(a, ct_series(1)) == [(0x0000, "")]
        b.stop_serving()
        b.serve()  # every idle connection is stale, or ends with the next frame
        assert send(a, ct_series(4)) == [(0x0000, "")] * 4
    assert len(b.spool.files("incoming")) == 5


def test_an_image_waits_for_a_machine_that_is_back_within_seconds(machines: list[FleetMachine]) -> None:
    a, b = machines
    b.serve()
    with a.receiving():
        assert send(a, ct_series(1)) == [(0x0000, "")]
        b.stop_serving()
        restart = threading.Timer(2.0, b.serve)
        restart.start()
        assert send(a, ct_series(2)) == [(0x0000, "")] * 2
        restart.join()


def test_the_same_image_again_and_from_another_sender_changes_nothing(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    b.serve()
    images = ct_series(2)
    with a.receiving(), b.receiving():
        for machine, sender in ((a, "CT"), (a, "CT"), (a, "PACS"), (b, "CT"), (b, "PACS")):
            assert send(machine, images, sender) == [(0x0000, "")] * 2
        until(lambda: len(a.rows(instance)) == 2)
    for machine in machines:
        machine.copies.pending.look()
        assert links(machine) == 0
        assert len(machine.spool.files("")) >= 2
        assert machine.spool.files("conflicts") == []
    assert a.rows(conflict) == []
    assert missing(a) == 0


def test_other_content_is_a_conflict_on_both_machines(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    b.serve()
    [first] = ct_series(1)
    with a.receiving(), b.receiving():
        assert send(a, [first]) == [(0x0000, "")]
        until(lambda: len(a.rows(instance)) == 1)
        first.PixelData = b"\x07" + first.PixelData[1:]
        assert send(b, [first]) == [(0x0000, "")]
        until(lambda: len(a.rows(conflict)) == 1)
    [row] = a.rows(conflict)
    for machine in machines:
        machine.copies.pending.look()
        assert links(machine) == 0
        assert machine.spool.files("conflicts") == [row.path]
    assert missing(a) == 0


def test_copies_of_a_receiver_that_died_before_it_wrote_their_rows_get_them_here(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    b.serve()
    with a.receiving():
        monkeypatch.setattr("node.receive.row_writer.record_receipts", _lost)
        assert send(a, ct_series(3)) == [(0x0000, "")] * 3
    assert b.rows(instance) == []
    monkeypatch.undo()
    b.copies.pending.look()  # its member has left
    assert len(b.rows(instance)) == 3
    assert links(b) == 0
    assert {row.machine for row in b.rows(holding)} == {b.spool.machine}
    assert missing(b) == 3


def _lost(*_arguments: object) -> None:
    raise ValueError("no row")

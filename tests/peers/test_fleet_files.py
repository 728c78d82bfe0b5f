"""Machines without a shared folder: who reads a file that another machine holds gets exactly that file, or an error."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import postgres
import pytest
import sqlalchemy as sa
from certificates import Authority
from fleet_machines import SERIES, STUDY, FleetMachine, issue
from receivers import until

from node.check import network
from node.errors import AbsentFileError, PlatformError
from node.fleet import file_client
from node.fleet.file_client import new_client
from node.fleet.housekeeping import Housekeeping
from node.fleet.paths import served_file
from node.ledger.engine import begin_immediate
from node.ledger.holdings import purge_holdings, record_handover
from node.ledger.tables import conflict, holding, instance
from node.operate.purge import Retention
from node.operate.verify import verify
from node.receive.recovery import record_unrecorded
from node.routing.conflicts import Conflicts

DAY = 86400.0


@pytest.fixture
def machines(tmp_path: Path, postgres_server: str, authority: Authority) -> Iterator[list[FleetMachine]]:
    url = postgres.new_database(postgres_server, "fleet" + tmp_path.name[-40:].lower())
    both = [FleetMachine(tmp_path / name, url, authority) for name in ("a", "b")]
    yield both
    for machine in both:
        machine.close()


def copies(machine: FleetMachine) -> list[Path]:
    return [path for path in (machine.spool.folder / "cache").rglob("*") if path.is_file()]


def test_a_file_of_another_machine_is_fetched_once_and_is_the_same(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    received = a.receive(20)
    files = b.spool.all_readable([receipt.path for receipt in received])
    assert [file.read_bytes() for file in files] == [(a.spool.folder / of.path).read_bytes() for of in received]
    assert [file.name for file in files] == [Path(of.path).name for of in received]
    assert b.spool.folder in files[0].parents
    a.end()
    assert b.spool.all_readable([receipt.path for receipt in received]) == files


def test_a_machine_reads_its_own_files_where_they_are(machines: list[FleetMachine]) -> None:
    a, _ = machines
    [of] = a.receive()
    assert a.spool.readable(of.path) == a.spool.folder / of.path
    assert copies(a) == []


def test_a_file_on_a_machine_that_is_down_is_an_outage_and_one_that_nobody_has_is_missing(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    [of] = a.receive()
    with pytest.raises(AbsentFileError, match="whose file service does not answer"):
        b.spool.readable(of.path)
    assert not b.spool.readable("incoming/1/1/1.dcm").exists()
    a.serve()
    assert b.spool.stored_size(of.path) == of.size
    (a.spool.folder / of.path).unlink()
    assert b.spool.stored_size(of.path) is None
    assert not b.spool.readable(of.path).exists()


def test_a_file_that_is_purged_at_this_moment_is_missing_and_its_machine_is_asked_on(
    machines: list[FleetMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines
    a.serve()
    first, second = a.receive(2)

    def purged(folder: Path, path: str) -> Path | None:
        place = served_file(folder, path)
        if path == first.path and place is not None:
            place.unlink()
        return place

    with monkeypatch.context() as patch:
        patch.setattr("node.fleet.file_service.served_file", purged)
        assert not b.spool.readable(first.path).exists()
    assert b.spool.readable(second.path).exists()


@pytest.mark.parametrize("change", [b"other bytes", b""])
def test_a_file_that_is_not_the_recorded_one_is_refused(machines: list[FleetMachine], change: bytes) -> None:
    a, b = machines
    a.serve()
    [of] = a.receive()
    file = a.spool.folder / of.path
    file.write_bytes(change + file.read_bytes()[len(change) :] if change else file.read_bytes()[:-1])
    with pytest.raises(PlatformError, match="is not the file that the ledger recorded"):
        b.spool.readable(of.path)
    assert copies(b) == []


def test_an_answer_longer_than_the_recorded_file_is_cut_off(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    [of] = a.receive()
    with (a.spool.folder / of.path).open("ab") as file:
        file.truncate(1 << 40)  # sparse: reading it all would take minutes
    begun = time.monotonic()
    with pytest.raises(PlatformError, match=f"more than the {of.size} bytes"):
        b.spool.readable(of.path)
    assert time.monotonic() - begun < 30.0
    assert copies(b) == []


def silent(connection: ssl.SSLSocket) -> None:
    connection.recv(4096)
    time.sleep(30.0)


def dribbling(connection: ssl.SSLSocket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    for _ in range(300):
        connection.sendall(b"x")
        time.sleep(0.1)


def broken_off(connection: ssl.SSLSocket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nabc")


@pytest.mark.parametrize("behaviour", [silent, dribbling, broken_off])
def test_a_machine_that_stalls_holds_nobody_up(
    machines: list[FleetMachine],
    authority: Authority,
    behaviour: Callable[[ssl.SSLSocket], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = machines
    monkeypatch.setattr(file_client, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(file_client, "_LEAST_SECONDS", 2.0)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept()[0] as accepted, context.wrap_socket(accepted, server_side=True) as connection:
            try:
                behaviour(connection)
            except OSError:
                return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.pem("a"), authority.key("a"))
    threading.Thread(target=serve, daemon=True).start()
    a.serve(f"https://127.0.0.1:{listener.getsockname()[1]}")
    [of] = a.receive()
    begun = time.monotonic()
    with pytest.raises(AbsentFileError):
        b.spool.readable(of.path)
    with pytest.raises(AbsentFileError, match="does not answer"):  # not asked again so soon
        b.spool.readable(of.path)
    assert time.monotonic() - begun < 15.0
    assert copies(b) == []
    listener.close()


def test_only_machines_with_a_certificate_of_the_fleet_are_served(
    machines: list[FleetMachine], authority: Authority, tmp_path: Path
) -> None:
    a, b = machines
    a.serve()
    [of] = a.receive()
    with new_client(b.fleet) as client:
        assert client.get(a.url + of.path).status_code == 200
    stranger = Authority(tmp_path / "stranger")
    issue(stranger, "eve")
    trusting = ssl.create_default_context(cafile=authority.pem("ca"))
    with httpx.Client(verify=trusting) as client, pytest.raises(httpx.TransportError):
        client.get(a.url + of.path)
    trusting.load_cert_chain(stranger.pem("eve"), stranger.key("eve"))
    with httpx.Client(verify=trusting) as client, pytest.raises(httpx.TransportError):
        client.get(a.url + of.path)


def test_a_revoked_machine_is_not_served(machines: list[FleetMachine], authority: Authority, tmp_path: Path) -> None:
    a, _ = machines
    issue(authority, "sold")
    authority.revoke("sold")
    authority.revocation_list()
    fleet = a.fleet.model_copy(update={"crl": str(authority.folder / "crl.pem")})
    a.config = a.config.model_copy(update={"fleet": fleet})
    a.serve()
    [of] = a.receive()
    sold = fleet.model_copy(update={"certificate": authority.pem("sold"), "key": authority.key("sold")})
    with new_client(sold) as client, pytest.raises(httpx.TransportError):
        client.get(a.url + of.path)
    with new_client(fleet) as client:
        assert client.get(a.url + of.path).status_code == 200


def test_a_server_without_a_certificate_of_the_fleet_is_not_believed(
    machines: list[FleetMachine], tmp_path: Path
) -> None:
    a, b = machines
    stranger = Authority(tmp_path / "stranger")
    issue(stranger, "eve")
    own = {"certificate": stranger.pem("eve"), "key": stranger.key("eve")}
    a.config = a.config.model_copy(update={"fleet": a.fleet.model_copy(update=own)})
    a.serve()
    [of] = a.receive()
    with pytest.raises(AbsentFileError, match=r"(?i)certificate.verify.failed"):
        b.spool.readable(of.path)


_NOT_SERVED = (
    "salt", "../b/salt", "incoming/../salt", "incoming/1.2.3/../../salt", "incoming/1.2.3/..%2f..%2fsalt",
    "%2e%2e/b/salt", "%2fetc%2fpasswd", "/etc/passwd", "incoming/1.2.3/1.2.3.4/9.dcm", "incoming/1.2.3/1.2.3.4/8.dcm",
    "incoming/1.2.3/1.2.3.4/link.dcm", "results/../salt/1.dcm", "results/..", "work/j/other", "temporary/x/0",
    "machine-id", "", "incoming/1.2.3/1.2.3.4/1.dcm\x00",
)  # fmt: skip


def test_nothing_but_files_of_the_spool_is_served(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    [of] = a.receive()
    folder = a.spool.folder
    (folder / "salt").write_text("secret")
    (folder / "work/j").mkdir()
    (folder / "work/j/other").write_text("secret")
    for name in ("link.dcm", "9.dcm"):
        (folder / "incoming" / STUDY / SERIES / name).symlink_to(folder / "salt")
    os.mkfifo(folder / "incoming" / STUDY / SERIES / "8.dcm")
    context = ssl.create_default_context(cafile=a.fleet.ca)
    context.load_cert_chain(b.fleet.certificate, b.fleet.key)

    def answer(path: str) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", a.fleet.port), 10.0) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(f"GET /files/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer(of.path).startswith(b"HTTP/1.1 200")
    for path in _NOT_SERVED:
        refused = answer(path)
        assert refused.split(b" ")[1] in {b"400", b"404"}, path
        assert b"secret" not in refused
    with new_client(b.fleet) as client:
        digests = f"https://127.0.0.1:{a.fleet.port}/digests"
        asked = dict.fromkeys((*_NOT_SERVED, of.path), "blake3:")
        assert client.post(digests, json=asked).json() == dict.fromkeys(_NOT_SERVED, "") | {of.path: of.digest}
        for malformed in ("[]", '{"x": 1}', "{"):
            assert client.post(digests, content=malformed).status_code == 400


def test_the_same_image_from_another_sender_at_another_machine_is_no_other_content(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    for machine in machines:
        machine.serve()
    [first] = a.receive(sender="CT")
    [second] = b.receive(sender="PACS")
    assert first.digest != second.digest
    [row] = a.rows(instance)
    assert (row.path, row.digest) == (first.path, first.digest)
    [other] = a.rows(conflict)
    assert other.digest == second.digest
    assert (b.spool.folder / other.path).exists()
    assert not (b.spool.folder / second.path).exists()
    assert Conflicts(a.engine, a.spool).step() == 1
    [other] = a.rows(conflict)
    assert (other.kind, other.changed) == ("encoding", "FileMetaInformation")


def test_other_bytes_under_the_same_uid_at_another_machine_are_a_conflict_and_both_are_kept(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    for machine in machines:
        machine.serve()
    [first] = a.receive(value=1)
    for _ in range(2):  # sent again, it changes nothing
        [second] = b.receive(value=2)
    [row] = a.rows(instance)
    assert row.digest == first.digest
    [other] = a.rows(conflict)
    assert Conflicts(b.engine, b.spool).step() == 1
    [other] = a.rows(conflict)
    assert (other.kind, other.digest) == ("content", second.digest)
    assert a.spool.readable(other.path).read_bytes() == b.spool.absolute(other.path).read_bytes()
    assert b.spool.readable(row.path).read_bytes() == a.spool.absolute(row.path).read_bytes()
    for machine in machines:
        assert verify(machine.engine, machine.spool, time.time()).faults == 0


def test_the_same_file_at_two_machines_can_be_fetched_from_either(machines: list[FleetMachine], tmp_path: Path) -> None:
    a, b = machines
    b.serve()
    [of] = a.receive()
    b.receive()
    assert len(a.rows(conflict)) == 0
    (a.spool.folder / of.path).unlink()
    assert a.spool.readable(of.path).read_bytes() == b.spool.absolute(of.path).read_bytes()


def test_retention_deletes_the_files_of_every_machine_and_nobody_records_them_again(
    machines: list[FleetMachine],
) -> None:
    a, b = machines
    [of] = a.receive()
    b.receive(2)
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.text("UPDATE series SET state = 'COMPLETE'"))
        [state] = connection.scalars(sa.text("SELECT DISTINCT state FROM series"))
    assert state == "COMPLETE"
    assert Retention(a.config, a.engine, a.spool).step(time.time() + 15 * DAY) == [STUDY]
    assert (b.spool.folder / of.path).exists()
    assert record_unrecorded(b.engine, b.spool, threading.Event()) == 0, "b comes back and records what was purged"
    for machine in machines:
        Housekeeping(machine.engine, machine.spool, 1.0).step()
        assert not (machine.spool.folder / "incoming" / STUDY).exists()
    assert a.rows(holding) == []


def test_an_image_that_comes_while_its_series_is_purged_stays(machines: list[FleetMachine]) -> None:
    a, b = machines
    [first] = b.receive()
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.delete(instance))
        purge_holdings(connection, [f"incoming/{STUDY}/{SERIES}"])
    late = b.receive(2)[1]
    Housekeeping(b.engine, b.spool, 1.0).step()
    assert (b.spool.folder / late.path).exists()
    assert (b.spool.folder / first.path).exists()  # received again
    b.serve()
    assert a.spool.readable(late.path).exists()


def test_verify_counts_what_others_hold_and_names_what_cannot_be_reached(machines: list[FleetMachine]) -> None:
    a, b = machines
    received = a.receive(3)
    of = verify(b.engine, b.spool, time.time())
    assert (of.elsewhere, len(of.unreachable), of.missing) == (0, 3, ())
    a.serve()
    assert verify(b.engine, b.spool, time.time()).elsewhere == 3
    (a.spool.folder / received[0].path).unlink()
    of = verify(b.engine, b.spool, time.time())
    assert (of.elsewhere, of.unreachable, of.missing) == (2, (), (received[0].path,))
    assert verify(a.engine, a.spool, time.time()).missing == (received[0].path,)


def test_the_handover_of_another_machine_is_fetched_and_a_stale_one_replaced(machines: list[FleetMachine]) -> None:
    a, b = machines
    a.serve()
    for machine, text in ((a, "new"), (b, "stale")):
        (machine.spool.work("j")).mkdir(parents=True)
        (machine.spool.work("j") / "findings.npz").write_text(text)
        with begin_immediate(a.engine) as connection:
            record_handover(connection, machine.spool.machine, "work/j")
    with begin_immediate(a.engine) as connection:
        record_handover(connection, a.spool.machine, "work/j")
    b.spool.fetch_work("j", "findings.npz")
    assert (b.spool.work("j") / "findings.npz").read_text() == "new"
    a.spool.fetch_work("j", "findings.npz")
    a.end()
    with pytest.raises(AbsentFileError):
        b.spool.fetch_work("j", "findings.npz")
    Housekeeping(b.engine, b.spool, 1.0).step()
    assert not b.spool.work("j").exists()


def test_a_renewed_certificate_is_used_without_a_restart(machines: list[FleetMachine], authority: Authority) -> None:
    a, b = machines
    a.serve()

    def shown() -> bytes | None:
        context = ssl.create_default_context(cafile=a.fleet.ca)
        context.load_cert_chain(b.fleet.certificate, b.fleet.key)
        with (
            socket.create_connection(("127.0.0.1", a.fleet.port), 10.0) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            return connection.getpeercert(binary_form=True)

    before = shown()
    authority.revoke("a")
    issue(authority, "a")
    until(lambda: shown() != before)


def test_check_asks_every_file_service_for_an_answer(machines: list[FleetMachine], tmp_path: Path) -> None:
    a, b = machines
    [nobody] = network.files_of_others(b.config)
    assert (nobody.good, nobody.found) == (True, "no file service is running")
    a.serve()
    [served] = network.files_of_others(b.config)
    assert (served.good, served.found) == (True, f"https://127.0.0.1:{a.fleet.port}: serves files to this machine")
    stranger = Authority(tmp_path / "stranger")
    issue(stranger, "eve")
    own = {"certificate": stranger.pem("eve"), "key": stranger.key("eve")}
    [refused] = network.files_of_others(b.config.model_copy(update={"fleet": b.fleet.model_copy(update=own)}))
    assert not refused.good
    assert "compare [fleet] host" in refused.remedy

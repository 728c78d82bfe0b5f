"""The audit trail: complete, in the standard's words, and proof against a quiet change."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import dicom_files
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from delivery_jobs import FinishedJob, destination
from pydicom import dcmread
from real_peers import dcmtk, storescp
from receivers import receiving

from node.__main__ import main
from node.config import parse
from node.errors import ConfigError, LedgerError, PlatformError
from node.ledger.audit_events import give_notice
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.tables import notice
from node.operate.audit.auditor import Auditor
from node.operate.audit.message import INSTANCES_TRANSFERRED as TRANSFERRED
from node.operate.audit.message import AuditEvent, Participant, Study, message
from node.operate.audit.syslog import Syslog
from node.operate.audit.trail import Trail, verify
from node.spool import Spool


def lines(path: Path) -> list[str]:
    return [line[65:] for line in path.read_text().splitlines()]


def events(path: Path) -> list[str]:
    return [ET.fromstring(line).find("EventIdentification/EventID").get("originalText") for line in lines(path)]


def test_a_message_names_source_destination_study_and_patient():
    told = AuditEvent(
        event=TRANSFERRED,
        action="C",
        at=1_700_000_000.5,
        participants=(Participant(user="CT1", address="10.1.2.3", requestor=True), Participant(user="AINODE")),
        studies=(Study(study_instance_uid="1.2.3", patient_id="P\x001<&", classes={"1.2.840.10008.5.1.4.1.1.2": 7}),),
    )
    root = ET.fromstring(message(told, "AINODE"))
    event = root.find("EventIdentification")
    assert (event.get("EventDateTime"), event.get("EventOutcomeIndicator")) == ("2023-11-14T22:13:20.500+00:00", "0")
    assert [p.get("UserID") for p in root.iter("ActiveParticipant")] == ["CT1", "AINODE"]
    things = {
        t.find("ParticipantObjectIDTypeCode").get("originalText"): t
        for t in root.iter("ParticipantObjectIdentification")
    }
    assert things["Study Instance UID"].get("ParticipantObjectID") == "1.2.3"
    assert things["Study Instance UID"].find("ParticipantObjectDescription/SOPClass").get("NumberOfInstances") == "7"
    assert things["Patient Number"].get("ParticipantObjectID") == "P\\x001<&"


def test_a_changed_a_missing_and_an_inserted_line_are_found(tmp_path):
    path = tmp_path / "audit.log"
    Trail(path).append(["<a/>", "<b/>"])
    Trail(path).append(["<c/>", "<d/>"])
    assert list(verify(path)) == []
    whole = path.read_text().splitlines(keepends=True)
    for damaged in (
        [whole[0].replace("<a/>", "<x/>"), *whole[1:]],
        [whole[0], *whole[2:]],
        whole[1:],
        [whole[0], whole[0], *whole[1:]],
    ):
        path.write_text("".join(damaged))
        assert list(verify(path))


def test_a_line_that_a_crash_cut_short_is_taken_off_and_the_chain_goes_on(tmp_path):
    path = tmp_path / "audit.log"
    Trail(path).append(["<a/>"])
    with path.open("a") as file:
        file.write("0123 <half")
    Trail(path).append(["<b/>"])
    assert lines(path) == ["<a/>", "<b/>"]
    assert list(verify(path)) == []


def test_many_writers_make_one_chain_that_only_the_owner_can_read(tmp_path):
    path = tmp_path / "audit.log"
    threads = [
        threading.Thread(target=lambda i=i: [Trail(path).append([f"<m n='{i}'/>"]) for _ in range(20)])
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(path)) == 80
    assert list(verify(path)) == []
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path):
    with pytest.raises(PlatformError, match=r"gone/audit\.log"):
        Trail(tmp_path / "gone" / "audit.log").append(["<a/>"])
    with pytest.raises(LedgerError, match=r"audit\.log"):
        list(verify(tmp_path / "audit.log"))


def store(port: int, *files: Path, called: str = "AINODE") -> int:
    return dcmtk("storescu", "-aet", "CT1", "-aec", called, "127.0.0.1", port, *files, check=False).returncode


def test_what_a_scanner_sends_and_who_is_refused_is_told_once(tmp_path):
    files = dicom_files.write(dicom_files.ct_series(3), tmp_path / "send")
    with receiving(tmp_path / "node") as node:
        assert store(node.port, *files) == 0
        for _ in range(3):
            assert store(node.port, *files, called="OTHER") != 0
        auditor = Auditor(node.config, node.engine, node.spool)
        deadline = time.monotonic() + 20
        told = 0
        while told < 2 and time.monotonic() < deadline:  # the association is closed in the ledger a moment later
            told += auditor.step(time.time())
        assert told == 2
        assert auditor.step(time.time()) == 0
    trail = tmp_path / "node" / "audit.log"
    assert sorted(events(trail)) == ["DICOM Instances Transferred", "Security Alert"]
    transfer = ET.fromstring(next(line for line in lines(trail) if "Transferred" in line))
    source, us = transfer.iter("ActiveParticipant")
    assert (source.get("UserID"), source.get("NetworkAccessPointID"), us.get("UserID")) == (
        "CT1",
        "127.0.0.1",
        "AINODE",
    )
    header = dcmread(files[0])
    identifiers = [t.get("ParticipantObjectID") for t in transfer.iter("ParticipantObjectIdentification")]
    assert identifiers == [header.StudyInstanceUID, header.PatientID]
    assert [c.get("NumberOfInstances") for c in transfer.iter("SOPClass")] == ["3"]


def test_a_delivery_is_told_with_its_destination_when_it_is_stored(tmp_path):
    with storescp(tmp_path / "pacs") as peer:
        done = FinishedJob(tmp_path / "node", dicom_files.ct_series(2), {"pacs": destination(peer)})
        auditor = Auditor(done.config, done.engine, done.spool)
        assert auditor.step(time.time()) == 0
        done.deliver()
    assert auditor.step(time.time()) == 2
    assert auditor.step(time.time()) == 0
    trail = tmp_path / "node" / "audit.log"
    assert events(trail) == ["Begin Transferring DICOM Instances", "DICOM Instances Transferred"]
    assert [p.get("UserID") for p in ET.fromstring(lines(trail)[1]).iter("ActiveParticipant")] == ["AINODE", peer.aet]
    done.engine.dispose()


@pytest.fixture
def quiet(tmp_path):
    """An auditor of a node that has done nothing yet; the argument is more configuration."""
    engines = []

    def make(more: str = "") -> tuple[Auditor, sa.Engine]:
        config = parse(f'[storage]\nfolder = "{tmp_path}"\n{more}')
        engines.append(open_ledger(ledger_url("", tmp_path)))
        return Auditor(config, engines[-1], Spool(tmp_path)), engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize(
    ("what", "event", "outcome"),
    [
        ("start", "Application Activity", "0"),
        ("login", "User Authentication", "0"),
        ("failed login", "User Authentication", "4"),
        ("act", "Application Activity", "0"),
    ],
)
def test_notices_are_told_in_the_words_of_the_standard_and_leave_the_ledger(quiet, tmp_path, what, event, outcome):
    auditor, engine = quiet()
    give_notice(engine, what, who="anna", address="10.0.0.9", detail="")
    assert auditor.step(0.0) == 1
    identification = ET.fromstring(lines(tmp_path / "audit.log")[0]).find("EventIdentification")
    assert identification.find("EventID").get("originalText") == event
    assert identification.get("EventOutcomeIndicator") == outcome
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(notice)) == 0


def test_the_syslog_server_gets_every_line_once_also_after_it_was_away(quiet, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=log", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "log.pem"], cwd=tmp_path, check=True, capture_output=True)
    auditor, engine = quiet(f'[audit]\nsyslog = "tls://127.0.0.1:{port}"\nca = "{tmp_path / "log.pem"}"')
    give_notice(engine, "login", who="anna")
    auditor.step(0.0)  # nobody listens: kept for later
    give_notice(engine, "logout", who="anna")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "log.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", port)) as server:
        got: list[bytes] = []
        listener = threading.Thread(
            target=lambda: got.append(_all_of(context.wrap_socket(server.accept()[0], server_side=True)))
        )
        listener.start()
        auditor.step(0.0)
        auditor.step(0.0)
        auditor.close()
        listener.join(20)
    frames = _frames(got[0])
    assert [("Login" in frame, "Logout" in frame) for frame in frames] == [(True, False), (False, True)]
    assert all(frame.startswith("<85>1 ") and " AINODE " in frame for frame in frames)
    assert [frame.partition('encoding="UTF-8"?>')[2] for frame in frames] == lines(tmp_path / "audit.log")


def _all_of(connection: ssl.SSLSocket) -> bytes:
    content = b""
    while part := connection.recv(65536):
        content += part
    connection.close()
    return content


def _frames(content: bytes) -> list[str]:
    """Octet counting of RFC 5425."""
    frames = []
    while content:
        length, _, rest = content.partition(b" ")
        frames.append(rest[: int(length)].decode())
        content = rest[int(length) :]
    return frames


def test_a_syslog_server_on_udp_gets_a_message_in_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        syslog = Syslog(f"udp://127.0.0.1:{server.getsockname()[1]}", "", "AINODE")
        syslog.send("<AuditMessage/>", 1_700_000_000.25)
        syslog.close()
        frame = server.recv(65536).decode()
    assert frame.startswith("<85>1 2023-11-14T22:13:20.250Z ")
    assert frame.endswith(' IHE+RFC-3881 - \ufeff<?xml version="1.0" encoding="UTF-8"?><AuditMessage/>')


def test_a_syslog_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="tls://host:6514"):
        parse('[audit]\nsyslog = "log.example"')


def test_the_verb_names_the_line_that_was_changed(tmp_path):
    path = tmp_path / "audit.log"
    Trail(path).append(["<a/>", "<b/>", "<c/>"])
    run = CliRunner()
    assert run.invoke(main, ["audit", "verify", str(path)]).exit_code == 0
    path.write_text(path.read_text().replace("<b/>", "<x/>"))
    answer = run.invoke(main, ["audit", "verify", str(path)])
    assert answer.exit_code == LedgerError.exit_code
    assert "audit.log:3" in answer.output

"""Delivery of reports as HL7 messages, to a receiver of a third party (hl7apy) and to hostile ones."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from analyses import analysis, source_of, two_lesions
from certificates import Authority
from delivery_jobs import PATIENT, FinishedJob
from dicom_files import ct_series
from hl7apy.parser import parse_message
from pydicom import FileDataset
from ris_receiver import ris

from node.config import Config, parse
from node.deliver.echo import echo
from node.errors import ConfigError, DeliveryError, UnreachableError
from node.ledger.engine import begin_immediate
from node.ledger.tables import result
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.rejection import encode_rejection

QUICK = replace(PATIENT, answer_seconds=1.0)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncodedObject, ...]:
    source = source_of(tmp_path_factory.mktemp("images"), ct_series(8, 48))
    return encode(analysis(two_lesions(source)), source, ["sr alone"])


@pytest.fixture
def report(objects: tuple[EncodedObject, ...]) -> FileDataset:
    return objects[-1].dataset


def to(port: int, **more: object) -> dict[str, dict[str, object]]:
    return {"ris": {"hl7": f"127.0.0.1:{port}", "application": "RIS", **more}}


def test_a_report_arrives_as_one_message_and_is_stored(tmp_path: Path, report: FileDataset) -> None:
    with ris() as receiver:
        job = FinishedJob(tmp_path, [report], to(receiver.port))
        job.deliver("ris")
        assert job.status("ris").state == "STORED"
        assert job.answers()[report.SOPInstanceUID] == (0, "acknowledgment AA")
        (message,) = receiver.messages
        assert f"|{report.AccessionNumber}|" in message
        job.deliver("ris")
        assert len(receiver.messages) == 1, "what is stored is not sent again"
        assert echo("ris", job.config.destinations["ris"], "AINODE").ok


@pytest.mark.parametrize(("code", "status"), [("AE", 0xC000), ("AR", 0x0110), ("CE", 0xC000)])
def test_a_message_that_is_not_accepted_is_sent_again_under_the_same_control_id(
    tmp_path: Path, report: FileDataset, code: str, status: int
) -> None:
    with ris() as receiver:
        receiver.answers = [code]
        job = FinishedJob(tmp_path, [report], to(receiver.port))
        with pytest.raises(DeliveryError, match=f"acknowledgment {code}: unknown patient"):
            job.deliver("ris")
        assert job.answers()[report.SOPInstanceUID][0] == status
        job.deliver("ris")
        assert job.status("ris").state == "STORED"
        assert len(receiver.messages) == 2
        assert len(receiver.distinct) == 1


@pytest.mark.thorough
def test_messages_go_over_tls_to_the_receiver_that_the_authority_names(
    tmp_path: Path, report: FileDataset, authority: Authority, other: Authority
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.pem("ca"))
    context.load_cert_chain(authority.pem("ainode"), authority.key("ainode"))
    context.verify_mode = ssl.CERT_REQUIRED
    files = {"enabled": True, "certificate": authority.pem("ct1"), "key": authority.key("ct1"), "check_host": False}
    with ris(context) as receiver:
        job = FinishedJob(tmp_path / "good", [report], to(receiver.port, tls={**files, "ca": authority.pem("ca")}))
        job.deliver("ris")
        assert len(receiver.messages) == 1
        stranger = FinishedJob(tmp_path / "bad", [report], to(receiver.port, tls={**files, "ca": other.pem("ca")}))
        with pytest.raises(UnreachableError, match=r"ris \(127.0.0.1:\d+\): .*check that it is running"):
            stranger.deliver("ris")
        assert len(receiver.messages) == 1


@pytest.mark.thorough
def test_a_withdrawn_report_is_cancelled_only_where_it_was_sent(
    tmp_path: Path, objects: tuple[EncodedObject, ...]
) -> None:
    report, file = objects[-1].dataset, tmp_path / "report.dcm"
    file.write_bytes(objects[-1].data)
    note = encode_rejection(analysis(outcome="failed", reason="wrong patient"), [file], "quality").dataset
    with ris() as receiver:
        for name, sent in (("held", True), ("never sent", False)):
            job = FinishedJob(tmp_path / name, [report, note] if sent else [note], to(receiver.port))
            with begin_immediate(job.engine) as connection:
                is_note = result.c.sop_instance_uid == note.SOPInstanceUID
                connection.execute(result.update().where(is_note).values(kind="rejection"))
            job.deliver("ris")
            assert job.status("ris").state == "STORED"
            assert len(receiver.messages) == 2, "the report and its withdrawal, and no withdrawal of what was not sent"
    orders = [parse_message(message).oru_r01_patient_result for message in receiver.messages]
    assert len(orders) == 2
    assert "|X\r" in receiver.messages[1]
    assert report.SOPInstanceUID in receiver.messages[1]


ANSWERS = {
    "silence": b"",
    "no message": b"\x0bhello\x1c\r",
    "another control ID": b"\x0bMSH|^~\\&|A|B\rMSA|AA|other\r\x1c\r",
    "no acknowledgment": b"\x0bMSH|^~\\&|A|B\rPID|1\r\x1c\r",
    "without end": b"\x0b" + b"x" * (1 << 17),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_no_other_answer_counts_as_stored(tmp_path: Path, report: FileDataset, answer: bytes) -> None:
    with answering(lambda connection: connection.sendall(answer)) as port:
        job = FinishedJob(tmp_path, [report], to(port))
        with pytest.raises(DeliveryError, match="0 of 1 objects stored"):
            job.deliver("ris", QUICK)
        assert job.answers()[report.SOPInstanceUID][0] is None


def test_a_receiver_that_is_down_is_named(tmp_path: Path, report: FileDataset, free_port: int) -> None:
    job = FinishedJob(tmp_path, [report], to(free_port))
    with pytest.raises(UnreachableError, match=r"ris \(127.0.0.1:\d+\): Connection refused; check that it is running"):
        job.deliver("ris")
    assert "Connection refused" in echo("ris", job.config.destinations["ris"], "AINODE").reason


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that answers what it likes to the first bytes of one connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                answer(connection)
                connection.settimeout(10.0)
                with suppress(ConnectionError):
                    while connection.recv(1 << 16):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


BASE = """
[destinations.ris]
hl7 = "ris:2575"
"""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (BASE + 'objects = ["seg"]', "reports only"),
        (BASE + 'host = "pacs"', "one of host"),
        (BASE + "find = true", "find needs host, url or fhir"),
        (BASE.replace("ris:2575", "ris"), "HOST:PORT"),
        (BASE.replace("hl7", "folder") + 'facility = "X"', "are for hl7"),
        (BASE + '[[rules]]\nname = "x"\nsend = ["ris"]\n', "takes HL7 messages and no images"),
    ],
)
def test_a_destination_that_cannot_be_meant_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse(text)


def test_the_report_without_references_is_what_an_hl7_destination_takes() -> None:
    config: Config = parse(BASE)
    assert config.kinds("ris") == {"sr alone"}
    assert config.destinations["ris"].place == "ris:2575"

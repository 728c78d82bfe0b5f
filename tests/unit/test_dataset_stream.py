"""Data sets that an archive sends on an association of ours go to files, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_GET_RSP, C_STORE_RQ
from pynetdicom.dimse_primitives import C_GET, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from node.deliver.dataset_stream import DatasetStream

CONTEXT = 3


class File:
    def __init__(self, path: Path, space: int = 1 << 20) -> None:
        self.path, self._space = path, space
        self.is_closed = self.is_discarded = False

    def append(self, pieces: Sequence[bytes]) -> None:
        data = b"".join(pieces)
        self._space -= len(data)
        if self._space < 0:
            raise OSError(28, "No space left on device")
        with self.path.open("ab") as file:
            file.write(data)

    def close(self) -> None:
        self.is_closed = True

    def discard(self) -> None:
        self.is_discarded = True


class Streamed:
    """A stream, what it has opened, and why it ended the association."""

    def __init__(self, folder: Path, space: int = 1 << 20, largest: int = 1 << 20) -> None:
        self.files: list[File] = []
        self.ended: list[str] = []

        def begin() -> File:
            self.files.append(File(folder / f"{len(self.files)}.dcm", space))
            return self.files[-1]

        def excess(waiting: int) -> str:
            return "too large" if waiting > largest else ""

        self.stream = DatasetStream(begin, excess, lambda _event, why: self.ended.append(why))

    def receive(self, message: Any) -> list[P_DATA_TF]:
        """Pass a message, in PDUs of at most 100 bytes."""
        context = SimpleNamespace(context_id=CONTEXT, transfer_syntax=[ExplicitVRLittleEndian])
        passed = []
        for primitive in message.encode_msg(CONTEXT, 100):
            pdu = P_DATA_TF()
            pdu.from_primitive(primitive)
            event: Any = SimpleNamespace(pdu=pdu, assoc=SimpleNamespace(accepted_contexts=[context]))
            self.stream.receive(event)
            passed.append(pdu)
        return passed

    def take(self, message_id: int) -> File | None:
        event: Any = SimpleNamespace(
            context=SimpleNamespace(context_id=CONTEXT), request=SimpleNamespace(MessageID=message_id)
        )
        return self.stream.take(event)


def store_request(message_id: int, uid: str = "1.2.3") -> C_STORE_RQ:
    request, image = C_STORE(), Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
    image.PixelData = bytes(1000)
    image["PixelData"].VR = "OW"
    request.MessageID, request.Priority = message_id, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, uid
    request.DataSet = BytesIO(encode(image, False, True) or b"")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return message


def data_of(passed: Sequence[P_DATA_TF]) -> bytes:
    items = [item for pdu in passed for item in pdu.presentation_data_value_items]
    values = [item.presentation_data_value for item in items]
    return b"".join(value[1:] for value in values if value and not value[0] & 1)


def test_an_object_goes_to_its_file_and_its_pdus_go_on_without_it(tmp_path: Path) -> None:
    streamed = Streamed(tmp_path)
    passed = streamed.receive(store_request(7))
    assert len(passed) > 10
    assert data_of(passed) == b""
    last = passed[-1].presentation_data_value_items[0].presentation_data_value
    assert last == b"\x02", "it is still the last one of a data set"
    file = streamed.take(7)
    assert file is not None
    assert file.is_closed
    image = dcmread(file.path)
    assert (image.SOPInstanceUID, image.file_meta.TransferSyntaxUID) == ("1.2.3", ExplicitVRLittleEndian)
    assert len(image.PixelData) == 1000
    assert (streamed.take(7), streamed.ended) == (None, [])


def test_requests_that_come_before_the_first_is_answered_keep_their_own_files(tmp_path: Path) -> None:
    streamed = Streamed(tmp_path)
    for number in (1, 2):
        streamed.receive(store_request(number, f"1.2.{number}"))
    for number in (2, 1):
        file = streamed.take(number)
        assert file is not None
        assert dcmread(file.path).SOPInstanceUID == f"1.2.{number}"


def test_the_data_of_other_messages_passes(tmp_path: Path) -> None:
    streamed, response, failed = Streamed(tmp_path), C_GET(), Dataset()
    failed.FailedSOPInstanceUIDList = "1.2.3"
    response.MessageIDBeingRespondedTo, response.Status = 1, 0xB000
    response.AffectedSOPClassUID = StudyRootQueryRetrieveInformationModelGet
    response.Identifier = BytesIO(encode(failed, False, True) or b"")
    message = C_GET_RSP()
    message.primitive_to_message(response)
    assert b"1.2.3" in data_of(streamed.receive(message))
    assert streamed.files == []


def test_what_nobody_has_taken_is_deleted(tmp_path: Path) -> None:
    streamed, half = Streamed(tmp_path), store_request(2)
    streamed.receive(store_request(1))
    pdus = [*half.encode_msg(CONTEXT, 100)]
    half.encode_msg = lambda *_: iter(pdus[:-1])  # type: ignore[method-assign,assignment,misc]
    streamed.receive(half)
    streamed.stream.close()
    assert [file.is_discarded for file in streamed.files] == [True, True]


def test_the_association_ends_with_the_reason_and_nothing_more_is_written(tmp_path: Path) -> None:
    for name, bounds, reason in (
        ("disk", {"space": 600}, "the disk refuses an object: No space left on device"),
        ("size", {"largest": 500}, "too large"),
    ):
        (tmp_path / name).mkdir()
        streamed = Streamed(tmp_path / name, **bounds)
        assert data_of(streamed.receive(store_request(1))) == b""
        assert streamed.ended == [reason]
        assert streamed.take(1) is None
        assert data_of(streamed.receive(store_request(2))) == b""
        assert (len(streamed.files), len(streamed.ended)) == (1, 1)


def test_two_requests_with_one_message_id_end_the_association(tmp_path: Path) -> None:
    streamed = Streamed(tmp_path)
    for _ in range(2):
        streamed.receive(store_request(1))
    assert streamed.ended == ["two requests at a time have one Message ID"]
    assert streamed.files[1].is_discarded

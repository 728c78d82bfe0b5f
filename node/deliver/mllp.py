"""HL7 destinations: each report as one message over the Minimal Lower Layer Protocol (HL7 2.5.1 chapter 2, appendix C).

A message is stored when the receiver has accepted it (MSA-1 = AA or CA). It is sent again with the same control ID
until then, so that the receiver can tell a repetition.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from pydicom import Dataset, dcmread

from node.config import Destination
from node.config.hl7_message import CHARACTER_SETS
from node.confined import Bounds, shared_process
from node.deliver.association import Timeouts
from node.deliver.object_result import Answer, Store
from node.errors import ConfigError, EncodeError, InputError, PlatformError, UnreachableError
from node.ledger.jobs import REJECTION
from node.ledger.pending_deliveries import PendingObject
from node.results.hl7_report import Addressee, report_message, withdrawal_message, withdrawn_reports
from node.spool import Spool
from node.studies.pydicom_errors import NOT_DICOM
from node.tls import client_context

_BEGIN, _END = b"\x0b", b"\x1c\r"
_LONGEST_ANSWER = 1 << 16
_ACCEPTED, _ERROR = ("AA", "CA"), ("AE", "CE")
"""Acknowledgment codes (table 0008); others, such as AR, reject the message for now."""
_SUCCESS, _CANNOT_UNDERSTAND, _PROCESSING_FAILURE = 0x0000, 0xC000, 0x0110
"""The equivalent status of C-STORE (PS3.4 B.2.3, PS3.7 C.5.7)."""

IsHeld = Callable[[str], bool]
"""Whether the destination has accepted the report with this SOP Instance UID."""


@contextmanager
def connected(name: str, destination: Destination, timeouts: Timeouts) -> Iterator[socket.socket]:
    """Connect to ``[destinations.name] hl7``, over TLS where it is enabled.

    Raises ``UnreachableError`` when that fails, or when the connection is lost while it is used.
    """
    host, port = destination.hl7_address
    where = f"{name} ({destination.hl7})"
    try:
        with socket.create_connection((host, port), timeouts.connect_seconds) as plain:
            plain.settimeout(timeouts.answer_seconds)
            if not destination.tls.enabled:
                yield plain
                return
            context = client_context(destination.tls, f"[destinations.{name}.tls]")
            with context.wrap_socket(plain, server_hostname=host) as secured:
                yield secured
    except ConfigError as error:
        raise UnreachableError(f"{where}: {error}") from error
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise UnreachableError(f"{where}: {why}; check that it is running, its address, port and TLS") from error


@contextmanager
def mllp_store(
    name: str,
    destination: Destination,
    calling_title: str,
    spool: Spool,
    *,
    timeouts: Timeouts,
    is_held: IsHeld,
    urgent: bool = False,
) -> Iterator[Store]:
    """Open one connection for the messages of a job when the first is encoded: receivers do not wait for long.

    ``urgent``: whether the result of the job is. The store raises ``UnreachableError`` when that fails.
    """
    to = Addressee(
        sender=calling_title.strip(),
        application=destination.application,
        facility=destination.facility,
        language=destination.language,
        urgent=urgent,
        message=destination.message,
    )
    with ExitStack() as stack:
        connect = cache(lambda: stack.enter_context(connected(name, destination, timeouts)))

        def store(instance: PendingObject) -> Answer:
            answer = Answer(status=_SUCCESS, comment="nothing that was sent there is withdrawn")
            try:
                messages = _messages(instance, spool, to, is_held)
            except EncodeError as error:  # this receiver could not read it; others get it
                return Answer(status=_CANNOT_UNDERSTAND, comment=str(error))
            for message in messages:
                connection = connect()
                answer = _exchange(connection, message, timeouts.answer_seconds)
                if answer.status != _SUCCESS:
                    break
            return answer

        yield store


def _messages(instance: PendingObject, spool: Spool, to: Addressee, is_held: IsHeld) -> list[bytes]:
    process, path = shared_process("HL7 encoder", spool.data_folders, Bounds()), spool.readable(instance.path)
    codec = CHARACTER_SETS[to.message.charset]
    try:
        if not instance.kind.startswith(REJECTION):
            return [process.call(instance.path, message_of, path, to).encode(codec)]
        withdrawn = process.call(instance.path, withdrawals_by, path, to)
        return [message.encode(codec) for uid, message in withdrawn.items() if is_held(uid)]
    except InputError as error:
        raise PlatformError(f"{instance.path} cannot be read ({error}); check the disk, or retry the job") from error


def message_of(path: Path, to: Addressee) -> str:
    """Encode a report in a confined process."""
    return report_message(read_report(path), to)


def withdrawals_by(path: Path, to: Addressee) -> dict[str, str]:
    """Encode the withdrawal of each report that a rejection note names, by its UID, in a confined process."""
    note = read_report(path)
    return {uid: withdrawal_message(note, uid, to) for uid in withdrawn_reports(note)}


def read_report(path: Path) -> Dataset:
    """Read a report or rejection note in a confined process. Raises ``InputError`` when it cannot be read."""
    try:
        return dcmread(path)
    except NOT_DICOM as error:
        raise InputError(str(error)) from error


def _exchange(connection: socket.socket, message: bytes, seconds: float) -> Answer:
    """Send a message and wait for its acknowledgment."""
    try:
        connection.sendall(_BEGIN + message + _END)
        received = _read(connection, time.monotonic() + seconds)
    except OSError as error:
        return Answer(status=None, comment=f"no acknowledgment ({error.strerror or error})", lost=True)
    fields = _fields(received, "MSA")
    if len(fields) < 3 or fields[2] != _fields(message, "MSH")[9]:
        return Answer(status=None, comment="the answer is no acknowledgment of the message", lost=True)
    texts = [fields[3] if len(fields) > 3 else "", *_fields(received, "ERR")[1:]]
    comment = ": ".join(filter(None, [f"acknowledgment {fields[1]}", " ".join(filter(None, texts))]))
    if fields[1] in _ACCEPTED:
        return Answer(status=_SUCCESS, comment=comment)
    return Answer(status=_CANNOT_UNDERSTAND if fields[1] in _ERROR else _PROCESSING_FAILURE, comment=comment)


def _read(connection: socket.socket, deadline: float) -> bytes:
    """Read one message, without its frame."""
    received = bytearray()
    while _END not in received:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(_LONGEST_ANSWER)
        if not part:
            raise ConnectionError("the connection was closed")
        received += part
        if len(received) > _LONGEST_ANSWER:
            raise ConnectionError(f"the answer has more than {_LONGEST_ANSWER >> 10} KiB")
    return bytes(received[: received.index(_END)]).rpartition(_BEGIN)[2]


def _fields(message: bytes, name: str) -> list[str]:
    """Fields of the first segment of this name; the first one is the name itself."""
    segments = message.decode("utf-8", "replace").replace("\n", "\r").split("\r")
    if not segments[0].startswith("MSH") or len(segments[0]) < 4:
        return []
    separator = segments[0][3]
    return next((fields for segment in segments if (fields := segment.split(separator))[0] == name), [])

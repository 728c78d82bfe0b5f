"""DIMSE-N services (PS3.7 chapter 10) and C-FIND as values: request, answer and later notification."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from node.errors import InputError
from node.receive.association_info import AssociationInfo
from node.receive.command import Command, event_report_request
from node.receive.dataset_limits import DatasetLimits
from node.receive.dataset_stream import DeflatedStream, PlainStream
from node.receive.dataset_structure import structure_of
from node.receive.negotiation import Context
from node.receive.status_codes import INVALID_ARGUMENT, PENDING, PROCESSING_FAILURE
from node.workitems.character_set import declare_character_set

LOGGER = logging.getLogger(__name__)

_MALFORMED = (
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""Raised by pydicom while it converts values that are not of their VR."""
LONGEST_DATA_SET = 1 << 24
"""Bytes, on the wire and inflated."""
_LIMITS = DatasetLimits(elements=400_000)
"""About 130,000 instances of a Storage Commitment request or procedure step: three elements for each."""
_LARGE = 1 << 20
_ONE_LARGE = threading.Lock()
"""Large data sets are served one after the other: decoded, one takes about 3 KiB of memory for each instance."""


@dataclass(frozen=True, kw_only=True)
class NormalizedRequest:
    """An N-EVENT-REPORT, N-GET, N-SET, N-ACTION, N-CREATE or C-FIND request, unchecked."""

    calling_ae: str
    address: str
    equipment: str
    """The requesting device; see ``policy.Admission``."""
    association_id: str
    operation: int
    """Command Field (0000,0100)."""
    context_class_uid: str
    """Abstract syntax of its presentation context."""
    sop_class_uid: str
    sop_instance_uid: str
    type_id: int
    """Event Type ID or Action Type ID; 0 when there is none."""
    dataset: Dataset
    attributes: tuple[int, ...] = ()
    """Tags that an N-GET asks for; empty: all."""


@dataclass(frozen=True, kw_only=True)
class Notification:
    """An N-EVENT-REPORT that the peer may wait for on this association."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    information: Dataset
    answered: Callable[[int], None]
    """Called with the status of its response."""


@dataclass(frozen=True, kw_only=True)
class NormalizedAnswer:
    """The response; Success only when the effect of the request is durable."""

    status: int
    comment: str = ""
    """Error Comment (0000,0902): at most 64 characters of the default repertoire."""
    error_id: int | None = None
    """Error ID (0000,0903)."""
    sop_instance_uid: str = ""
    """UID that this node chose for an N-CREATE request without one."""
    dataset: Dataset | None = None
    """What an N-GET asked for."""
    matches: Sequence[Dataset] = ()
    """What a C-FIND has found."""
    notification: Notification | None = None
    refused: str = ""
    """For the audit trail: what the caller was not allowed to do; empty when it was allowed."""


class Normalized:
    """The DIMSE-N part of one association: answers requests and sends the notifications that follow."""

    def __init__(
        self,
        association: AssociationInfo,
        answer: Callable[[NormalizedRequest], NormalizedAnswer],
        send: Callable[[int, bytes, bool], None],
    ) -> None:
        """``send`` takes a presentation context ID, encoded bytes, and whether they are a command set."""
        self._association = association
        self._answer = answer
        self._send = send
        self._pending: list[tuple[int, Context, Notification]] = []
        self._sent: dict[int, Notification] = {}
        self._last_id = 0

    @property
    def has_pending(self) -> bool:
        """Whether a notification is to be sent."""
        return bool(self._pending)

    def serve(self, context_id: int, context: Context, command: Command, encoded: bytes | bytearray) -> None:
        """Answer a request; ``encoded`` is its data set, empty if it has none."""
        caller = self._association
        try:
            with turn(encoded, context.transfer_syntax):
                request = NormalizedRequest(
                    calling_ae=caller.calling_ae,
                    address=caller.peer_address,
                    equipment=caller.admission.equipment,
                    association_id=caller.id,
                    operation=command.field,
                    context_class_uid=context.abstract_syntax,
                    sop_class_uid=command.sop_class_uid,
                    sop_instance_uid=command.sop_instance_uid,
                    type_id=command.type_id,
                    dataset=decoded(encoded, context.transfer_syntax),
                    attributes=command.attributes,
                )
                answer = self._answer(request)
        except InputError as error:
            LOGGER.warning("operation 0x%04X from %s: %s", command.field, caller.calling_ae, error)
            answer = NormalizedAnswer(status=INVALID_ARGUMENT, comment=str(error))
        except Exception:  # the association's own loop: the peer must get an answer, others must continue
            LOGGER.exception("operation 0x%04X from %s failed", command.field, caller.calling_ae)
            answer = NormalizedAnswer(status=PROCESSING_FAILURE, comment="internal error of the node; see its log")
        for match in answer.matches:
            self._send(context_id, command.response(PENDING, has_data_set=True), True)
            self._send(context_id, _encoded(match, context.transfer_syntax), False)
        response = command.response(
            answer.status,
            answer.comment,
            error_id=answer.error_id,
            sop_instance_uid=answer.sop_instance_uid,
            has_data_set=answer.dataset is not None,
        )
        self._send(context_id, response, True)
        if answer.dataset is not None:
            self._send(context_id, _encoded(answer.dataset, context.transfer_syntax), False)
        if answer.notification is not None:
            self._pending.append((context_id, context, answer.notification))

    def notify(self) -> None:
        """Send all pending notifications."""
        while self._pending:
            context_id, context, notification = self._pending.pop(0)
            self._last_id += 1
            self._sent[self._last_id] = notification
            request = event_report_request(
                self._last_id,
                sop_class_uid=notification.sop_class_uid,
                sop_instance_uid=notification.sop_instance_uid,
                event_type=notification.event_type,
            )
            self._send(context_id, request, True)
            self._send(context_id, encode(notification.information, *_coding(context.transfer_syntax)) or b"", False)

    def answered(self, response: Command) -> None:
        """Handle a response to a notification; others are ignored."""
        notification = self._sent.pop(response.responded_to, None)
        if notification is not None:
            notification.answered(response.status)


def turn(encoded: bytes | bytearray, transfer_syntax: str) -> AbstractContextManager[object]:
    """Wait for a turn to decode a data set and to serve it: large ones are served one after the other."""
    is_large = len(encoded) > _LARGE or _coding(transfer_syntax)[2]
    return _ONE_LARGE if is_large else nullcontext()


def decoded(encoded: bytes | bytearray, transfer_syntax: str) -> Dataset:
    """Decode a data set with all its values, which pydicom would otherwise decode (and fail on) later.

    Raises ``InputError`` when it cannot be decoded or a sequence has another VR.
    """
    implicit_vr, little_endian, deflated = _coding(transfer_syntax)
    try:
        if deflated:
            encoded = DeflatedStream(BytesIO(encoded), LONGEST_DATA_SET).at(0, LONGEST_DATA_SET + 1)
        plain = PlainStream(BytesIO(encoded))
        structure = structure_of(plain, implicit=implicit_vr, big_endian=not little_endian, wanted=(), limits=_LIMITS)
        if not structure.well_formed and len(encoded) > _LARGE:
            raise InputError("data set unreadable: it is not well formed")
        dataset = decode(BytesIO(encoded), implicit_vr, little_endian)
        for element in dataset.iterall():
            if dictionary_has_tag(element.tag) and (dictionary_VR(element.tag) == "SQ") != (element.VR == "SQ"):
                raise InputError(f"{element.tag} has the wrong VR {element.VR}")
    except _MALFORMED as error:
        raise InputError(f"data set unreadable: {type(error).__name__}") from error
    return dataset


def _encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    """Encode what the node says, with the character set of its texts."""
    declare_character_set(dataset)
    return encode(dataset, *_coding(transfer_syntax)) or b""


def _coding(transfer_syntax: str) -> tuple[bool, bool, bool]:
    """Return implicit VR, little endian and deflated of a transfer syntax."""
    syntax = UID(transfer_syntax)
    return syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated

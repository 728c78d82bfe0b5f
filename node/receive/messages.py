"""DIMSE messages of one association (PS3.7): assembled from fragments, passed to a service, answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from node.ledger import EndingPoint
from node.receive.association_info import AssociationInfo
from node.receive.command import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, RESPONSE, SERVED, Command
from node.receive.element_walk import WINDOW
from node.receive.negotiation import Context
from node.receive.normalized import LONGEST_DATA_SET, Normalized, NormalizedAnswer, NormalizedRequest
from node.receive.pdu import INVALID_PARAMETER, PDV, PROVIDER, USER, AbortError, p_data_pdus
from node.receive.pdu_stream import PduStream
from node.receive.status_codes import CANNOT_UNDERSTAND, PROCESSING_FAILURE, SUCCESS, UNRECOGNISED_OPERATION, Refusal

LOGGER = logging.getLogger(__name__)

_LONGEST_COMMAND = 1 << 16
_MOST_PARTS = 256
"""Parts that are collected before they are written; bounds memory for a peer that sends one byte in each."""


class Sink(Protocol):
    """Receives the data set of one C-STORE."""

    def write(self, parts: Sequence[memoryview]) -> None:
        """Write the next bytes; ``parts`` are invalid when it returns."""

    def finish(self) -> Refusal | None:
        """Store the complete data set; ``None`` is Success: the instance is durable."""

    def discard(self) -> None:
        """Delete the incomplete data set."""

    def beginning(self) -> bytes:
        """Return the first bytes of the data set, which identify an instance that is not stored."""


class StoreRequest(NamedTuple):
    """A C-STORE-RQ, unchecked; its data set follows."""

    association: AssociationInfo
    context_class_uid: str
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Services:
    """Handlers of the messages."""

    store: Callable[[StoreRequest], Sink]
    not_stored: Callable[[StoreRequest, bytes, Refusal | str], None]
    """Called with the beginning of a data set that was not stored, and with the refusal that is answered or the reason
    why it is incomplete."""
    normalized: Callable[[NormalizedRequest], NormalizedAnswer]
    """Every DIMSE-N request, and C-FIND."""


@dataclass
class _Message:
    """A message that is being received."""

    context_id: int
    deadline: float
    """When it must be complete, monotonic clock."""
    encoded: bytearray = field(default_factory=bytearray)
    """Fragments of the command set, or of a data set that does not belong to a C-STORE."""
    command: Command | None = None
    sink: Sink | None = None
    parts: list[memoryview] = field(default_factory=list)
    """Parts of a C-STORE's data set that are not yet in the sink; valid until the stream's buffer is read again."""
    fault: bool = False
    """The node failed: the rest is discarded and the peer gets a failure status."""

    def beginning(self) -> bytes:
        """Return the known first bytes of a C-STORE's data set."""
        return (self.sink.beginning() if self.sink is not None else b"") or b"".join(self.parts)[:WINDOW]


class Messages:
    """Handles messages one after the other; writes many fragments of a data set to disk in one call."""

    def __init__(
        self, association: AssociationInfo, stream: PduStream, services: Services, transfer_timeout: float
    ) -> None:
        """Set ``contexts`` and ``maximum_length`` after the negotiation."""
        self.contexts: dict[int, Context] = {}
        self.maximum_length = 0
        """Longest P-DATA-TF that the peer accepts, bytes; 0: no limit."""
        self.normalized = Normalized(association, services.normalized, self._send)
        self._association = association
        self._stream = stream
        self._services = services
        self._transfer_timeout = transfer_timeout
        self._message: _Message | None = None
        self._last_refused = False
        stream.before_reading = self._flush

    @property
    def is_busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self._message is not None

    @property
    def amid(self) -> EndingPoint | None:
        """What the association is in the middle of; ``None`` between two messages."""
        return EndingPoint.MESSAGE if self.is_busy else EndingPoint.REFUSAL if self._last_refused else None

    def take(self, length: int) -> bool:
        """Process one P-DATA-TF of ``length`` bytes (PS3.8 9.3.5, annex E); return whether a message was answered.

        Raises ``AbortError`` for a fragment that is invalid at its position.
        """
        if self._message is not None and time.monotonic() > self._message.deadline:
            self.discard_incomplete(f"took more than {self._transfer_timeout:g} s (transfer_timeout_seconds)")
            raise AbortError(USER)
        answered = False
        while length:
            if length < PDV.size:
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            item, context_id, control = self._stream.unpack(PDV)
            if item < 2 or item + 4 > length or context_id not in self.contexts:
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            length -= item + 4
            message = self._message
            if message is None:
                message = self._message = _Message(context_id, time.monotonic() + self._transfer_timeout)
            # All fragments of a message come in its context and before those of the next one (PS3.8 E.1).
            if context_id != message.context_id or control & 1 != (message.command is None):
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            self._fragment(message, item - 2)
            if control & 2:
                if control & 1:
                    self._begin(message)
                if message.command is not None and not (control & 1 and message.command.has_data_set):
                    self._answer(message, message.command)
                    self._message = None
                    answered = True
        return answered

    def discard_incomplete(self, reason: str = "the association ended during transfer") -> None:
        """Discard an incomplete message because the association ends."""
        message, self._message = self._message, None
        if message is None or message.command is None or message.command.field != C_STORE_RQ:
            return
        beginning = message.beginning()
        if message.sink is not None:
            message.sink.discard()
        self._services.not_stored(self._request(message.context_id, message.command), beginning, reason)

    def _fragment(self, message: _Message, size: int) -> None:
        if message.sink is not None and not message.fault:
            while size:
                part = self._stream.read_part(size)
                size -= len(part)
                message.parts.append(part)  # not cached in a local: reading may have flushed the list
                if len(message.parts) == _MOST_PARTS:
                    self._flush()
        elif message.fault:
            self._stream.discard(size)
        else:
            longest = _LONGEST_COMMAND if message.command is None else LONGEST_DATA_SET
            if len(message.encoded) + size > longest:
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            message.encoded += self._stream.read(size)

    def _begin(self, message: _Message) -> None:
        """Parse the complete command set."""
        try:
            message.command = command = Command.parse(bytes(message.encoded))
        except ValueError as error:
            LOGGER.warning("association from %s: %s", self._association.calling_ae, error)
            raise AbortError(PROVIDER, INVALID_PARAMETER) from error
        message.encoded.clear()
        is_request = not command.field & RESPONSE and command.field != C_CANCEL_RQ
        if is_request and not command.has_message_id:  # it cannot be answered
            raise AbortError(USER)
        if command.field == C_STORE_RQ and command.has_data_set:
            self._open_sink(message, command)

    def _request(self, context_id: int, command: Command) -> StoreRequest:
        context = self.contexts[context_id]
        return StoreRequest(
            association=self._association,
            context_class_uid=context.abstract_syntax,
            transfer_syntax_uid=context.transfer_syntax,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
        )

    def _open_sink(self, message: _Message, command: Command) -> None:
        try:
            message.sink = self._services.store(self._request(message.context_id, command))
        except Exception:  # the actor's own loop: the sender must get an answer, other associations must continue
            LOGGER.exception("C-STORE failed")
            message.fault = True

    def _flush(self) -> None:
        """Write collected parts to the sink before the buffer is overwritten."""
        message = self._message
        if message is None or message.sink is None or not message.parts:
            return
        parts, message.parts = message.parts, []
        try:
            message.sink.write(parts)
        except Exception:  # as above
            LOGGER.exception("C-STORE failed")
            message.fault = True

    def _answer(self, message: _Message, command: Command) -> None:
        """Answer a complete message. Responses and C-CANCEL need no answer: no operation of this node is pending."""
        if command.field & RESPONSE:
            self.normalized.answered(command)
        if command.field & RESPONSE or command.field == C_CANCEL_RQ:
            return
        if command.field in SERVED:
            self.normalized.serve(message.context_id, self.contexts[message.context_id], command, message.encoded)
            return
        status, comment = UNRECOGNISED_OPERATION, ""
        if command.field == C_STORE_RQ:
            refusal = self._stored(message)
            status = SUCCESS if refusal is None else refusal.status
            self._last_refused = refusal is not None
            if refusal is not None:
                comment = refusal.comment
                self._services.not_stored(self._request(message.context_id, command), message.beginning(), refusal)
        elif command.field == C_ECHO_RQ:
            status = SUCCESS
        self._send(message.context_id, command.response(status, comment), True)

    def _stored(self, message: _Message) -> Refusal | None:
        if message.sink is None and not message.fault:
            return Refusal(CANNOT_UNDERSTAND, "no data set")
        self._flush()
        if message.sink is not None:
            try:
                if not message.fault:
                    return message.sink.finish()
            except Exception:  # as above
                LOGGER.exception("C-STORE failed")
            message.sink.discard()
        return Refusal(PROCESSING_FAILURE, "internal error of the node; see its log")

    def _send(self, context_id: int, encoded: bytes, is_command: bool) -> None:  # noqa: FBT001 - as PS3.8 E.2 has it
        for pdu in p_data_pdus(context_id, encoded, self.maximum_length, is_command=is_command):
            self._stream.send(pdu)

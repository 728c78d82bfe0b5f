"""The DIMSE messages of one association (PS3.7): put together from their fragments, handed to a service, answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from node.ledger import EndingPoint
from node.receive.command import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, NORMALIZED, RESPONSE, Command
from node.receive.element_walk import WINDOW
from node.receive.negotiation import Context
from node.receive.normalized import LONGEST_DATA_SET, Normalized, NormalizedAnswer, NormalizedRequest
from node.receive.pdu import INVALID_PARAMETER, PDV, PROVIDER, USER, AbortError, p_data_pdus
from node.receive.pdu_stream import PduStream
from node.receive.status import CANNOT_UNDERSTAND, PROCESSING_FAILURE, SUCCESS, UNRECOGNISED_OPERATION, Refusal

if TYPE_CHECKING:
    from node.receive.association import Association

LOGGER = logging.getLogger(__name__)

_LONGEST_COMMAND = 1 << 16
_PARTS = 256
"""Parts that are gathered before they are written; a peer that sends one byte in each gathers no memory."""


class Sink(Protocol):
    """Where the data set of one C-STORE goes."""

    def write(self, parts: Sequence[memoryview]) -> None:
        """Take the next bytes; they are gone when it returns."""

    def finish(self) -> Refusal | None:
        """The data set is complete; ``None`` is Success: the instance is durable then."""

    def discard(self) -> None:
        """It will not be complete: leave nothing behind."""

    def beginning(self) -> bytes:
        """The first bytes of the data set; they say what it was when it is not kept."""


class StoreRequest(NamedTuple):
    """A C-STORE-RQ as it came, nothing checked; its data set follows."""

    association: Association
    context_class_uid: str
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the receiver does with messages."""

    store: Callable[[StoreRequest], Sink]
    missed: Callable[[StoreRequest, bytes, Refusal | None], None]
    """An instance was not kept: the beginning of its data set, and why; ``None``: its message was cut off."""
    normalized: Callable[[NormalizedRequest], NormalizedAnswer]
    """Every DIMSE-N request."""


@dataclass
class _Message:
    """A message that is being received."""

    context_id: int
    encoded: bytearray = field(default_factory=bytearray)
    """Command fragments, or those of a data set that is no C-STORE's."""
    command: Command | None = None
    sink: Sink | None = None
    parts: list[memoryview] = field(default_factory=list)
    """Of a C-STORE's data set: not yet in the sink, and in the wire's buffer until that is read into again."""
    fault: bool = False
    """Our own fault: the rest is read and forgotten, and the peer gets an answer."""

    def beginning(self) -> bytes:
        """Of a C-STORE's data set, as far as it is known."""
        return (self.sink.beginning() if self.sink is not None else b"") or b"".join(self.parts)[:WINDOW]


class Messages:
    """One message after the other; fragments of a data set go from the buffer to the disk, many in one call."""

    def __init__(self, association: Association, stream: PduStream, services: Services) -> None:
        """``contexts`` and ``maximum_length`` are to be set when they are negotiated."""
        self.contexts: dict[int, Context] = {}
        self.maximum_length = 0
        """Longest P-DATA-TF the peer takes, bytes; 0: any."""
        self.normalized = Normalized(association, services.normalized, self._send)
        self._association = association
        self._stream = stream
        self._services = services
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
        """Take one P-DATA-TF (PS3.8 9.3.5, annex E) of ``length`` bytes from the wire; whether a message was answered.

        Raises ``AbortError`` when one of its fragments cannot stand there.
        """
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
                message = self._message = _Message(context_id)
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

    def discard(self) -> None:
        """The association ends: what is not complete leaves nothing behind."""
        message, self._message = self._message, None
        if message is None or message.command is None or message.command.field != C_STORE_RQ:
            return
        beginning = message.beginning()
        if message.sink is not None:
            message.sink.discard()
        self._services.missed(self._request(message.context_id, message.command), beginning, None)

    def _fragment(self, message: _Message, size: int) -> None:
        if message.sink is not None and not message.fault:
            while size:
                part = self._stream.part(size)
                size -= len(part)
                message.parts.append(part)  # asked for anew: reading may have flushed
                if len(message.parts) == _PARTS:
                    self._flush()
        elif message.fault:
            self._stream.skip(size)
        else:
            longest = _LONGEST_COMMAND if message.command is None else LONGEST_DATA_SET
            if len(message.encoded) + size > longest:
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            message.encoded += self._stream.take(size)

    def _begin(self, message: _Message) -> None:
        """The command set is complete."""
        try:
            message.command = command = Command.parse(bytes(message.encoded))
        except ValueError as error:
            LOGGER.warning("association from %s: %s", self._association.calling_ae, error)
            raise AbortError(PROVIDER, INVALID_PARAMETER) from error
        message.encoded.clear()
        is_request = not command.field & RESPONSE and command.field != C_CANCEL_RQ
        if is_request and not command.has_message_id:  # nothing to answer to
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
        except Exception:  # the actor's own loop: the sender must get an answer, and the others their service
            LOGGER.exception("C-STORE failed")
            message.fault = True

    def _flush(self) -> None:
        """Hand over what was gathered, before the buffer is read into again."""
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
        """The message is complete. Responses and C-CANCEL need no answer: this node asked nothing, and waits never."""
        if command.field & RESPONSE:
            self.normalized.answered(command)
        if command.field & RESPONSE or command.field == C_CANCEL_RQ:
            return
        if command.field in NORMALIZED:
            self.normalized.serve(message.context_id, self.contexts[message.context_id], command, message.encoded)
            return
        status, comment = UNRECOGNISED_OPERATION, ""
        if command.field == C_STORE_RQ:
            refusal = self._stored(message)
            status = SUCCESS if refusal is None else refusal.status
            self._last_refused = refusal is not None
            if refusal is not None:
                comment = refusal.comment
                self._services.missed(self._request(message.context_id, command), message.beginning(), refusal)
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
        return Refusal(PROCESSING_FAILURE, "node failure; see its log")

    def _send(self, context_id: int, encoded: bytes, is_command: bool) -> None:  # noqa: FBT001 - as PS3.8 E.2 has it
        for pdu in p_data_pdus(context_id, encoded, self.maximum_length, is_command=is_command):
            self._stream.send(pdu)

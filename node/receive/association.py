"""One association that a peer opened, in one thread: the acceptor's part of the state table in PS3.8 9.2.3.

======  ==================================  ======================================================================
state   meaning                             here
======  ==================================  ======================================================================
Sta2    awaiting A-ASSOCIATE-RQ             ``_associate``; ARTIM timer runs; other PDU: AA-1, A-ABORT: AA-2
Sta3    awaiting the local answer           the same; accepted: AE-7, rejected: AE-8
Sta6    established                         ``_serve``; P-DATA-TF: DT-2; A-ABORT: AA-3; closed: AA-4; other PDU: AA-8
Sta8    awaiting the local release answer   A-RELEASE-RQ (AR-2) is answered at once (AR-4)
Sta13   awaiting the close of the           ``_await_close``; ARTIM timer runs; what still comes is ignored (AA-6)
        connection                          until the peer closes (AR-5) or the timer expires (AA-2)
======  ==================================  ======================================================================

Sta1 has no connection; Sta4, 5, 7 and 9 to 12 belong to requestors and to whoever asks for a release: this node as
acceptor never does, so there is no release collision, and an A-RELEASE-RP is an unexpected PDU (AA-8). A second
A-ABORT in Sta13 (AA-7) is not sent: after the first one the peer's framing is not to be trusted.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from node.receive.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    NORMALIZED,
    RESPONSE,
    Command,
)
from node.receive.negotiation import Context, Proposal, rejected
from node.receive.normalized import Normalized, NormalizedAnswer, NormalizedRequest
from node.receive.policy import Rejection
from node.receive.status import CANNOT_UNDERSTAND, PROCESSING_FAILURE, SUCCESS, UNRECOGNISED_OPERATION, Refusal
from node.receive.wire import Wire
from node.tls import PeerCertificate

if TYPE_CHECKING:
    from node.receive.server import Server

LOGGER = logging.getLogger(__name__)

_ASSOCIATE_RQ, _P_DATA_TF, _RELEASE_RQ, _RELEASE_RP, _ABORT = 1, 4, 5, 6, 7
_KINDS = range(1, 8)
_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_RELEASE_RP_PDU = _PDU.pack(_RELEASE_RP, 4) + bytes(4)

_LONGEST_PDU = 1 << 24
"""A peer that announces a longer PDU is cut off before memory is given to it. An A-ASSOCIATE-RQ of 128 contexts with
all syntaxes is about 300 KiB; P-DATA-TF PDUs have the negotiated length, some peers add their headers on top."""
_LONGEST_COMMAND = 1 << 16
_LONGEST_REPORT = 1 << 24
"""Data set of a message that is no C-STORE: a Storage Commitment report of 80 000 instances."""

_NOTIFY_SECONDS = 1.0
"""Silence of a peer after which it seems to wait on this association for what it is to be told."""

_USER, _PROVIDER = 0, 2
"""Source of an A-ABORT (PS3.8 9.3.8)."""
_UNRECOGNISED_PDU, _UNEXPECTED_PDU, _INVALID_PARAMETER = 1, 2, 6


class Sink(Protocol):
    """Where the data set of one C-STORE goes."""

    def write(self, part: memoryview) -> None:
        """Take the next bytes; they are gone when it returns."""

    def finish(self) -> Refusal | None:
        """The data set is complete; ``None`` is Success: the instance is durable then."""

    def discard(self) -> None:
        """It will not be complete: leave nothing behind."""


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """A C-STORE-RQ as it came, nothing checked; its data set follows."""

    association: Association
    context_class_uid: str
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """What the receiver does with what comes."""

    store: Callable[[StoreRequest], Sink]
    normalized: Callable[[NormalizedRequest], NormalizedAnswer]
    """Every DIMSE-N request."""
    closed: Callable[[str], None]
    """An association with this id ended, however it ended."""
    refused: Callable[[str, str, str], None]
    """A caller (title, address) was turned away, and why."""


class _AbortError(Exception):
    """The association cannot go on: an A-ABORT is sent."""

    def __init__(self, source: int, reason: int = 0) -> None:
        super().__init__(source, reason)
        self.pdu = _PDU.pack(_ABORT, 4) + bytes((0, 0, source, reason))


@dataclass
class _Message:
    """A message that is being received."""

    context_id: int
    encoded: bytearray = field(default_factory=bytearray)
    """Command fragments, or those of a data set that is no C-STORE's."""
    command: Command | None = None
    sink: Sink | None = None
    fault: bool = False
    """Our own fault: the rest is read and forgotten, and the peer gets an answer."""


class Association(threading.Thread):
    """Serves one connection from its A-ASSOCIATE-RQ to its end."""

    def __init__(self, server: Server, connection: socket.socket, peer_address: str) -> None:
        self.id = uuid.uuid4().hex
        super().__init__(name=f"association-{self.id}", daemon=True)
        self.peer_address = peer_address
        self.opened_at = time.time()
        self.calling_ae = self.called_ae = ""
        self.certificate: PeerCertificate | None = None
        """What the peer has shown in the TLS handshake."""
        self._server = server
        self._wire = Wire(connection, server.network_timeout)
        self._contexts: dict[int, Context] = {}
        self._maximum_length = 0
        self._message: _Message | None = None
        self._normalized = Normalized(self, server.handlers.normalized, self._send)
        self._heard_at = time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self._message is not None

    @property
    def silent_seconds(self) -> float:
        """Since the connection was opened or the last message was answered."""
        return time.monotonic() - self._heard_at

    def run(self) -> None:
        """Serve until the association ends; whatever happens, its end is told and its connection closed."""
        linger = False
        try:
            linger = self._secure() and self._associate() and self._serve()
        except _AbortError as error:
            linger = self._send_last(error.pdu)
        except TimeoutError as error:  # nobody is there to wait for
            LOGGER.warning("association from %s ended: %s", self.peer_address, error)
            self._send_last(_AbortError(_PROVIDER).pdu)
        except OSError as error:
            if self._server.stopping:
                self._send_last(_AbortError(_USER).pdu)
            elif self._message is not None:
                LOGGER.warning("association from %s lost in the middle of a message: %s", self.peer_address, error)
        except Exception:  # the actor's own loop: one peer's fault is not another's
            LOGGER.exception("association from %s failed", self.peer_address)
            self._send_last(_AbortError(_PROVIDER).pdu)
        finally:
            self._forget_message()
            self._server.leave(self)
            if linger and not self._server.stopping:
                self._await_close()
            self._wire.close()
            self._server.gone(self)

    def end(self) -> None:
        """End it from another thread: what waits for the peer waits no longer."""
        self._wire.interrupt()
        self.join(timeout=5.0)

    def _secure(self) -> bool:
        """The TLS handshake, where TLS is spoken; whether it came to an end. The ARTIM timer runs already."""
        if self._server.tls is None:
            return True
        try:
            self.certificate = self._wire.secure(self._server.tls.context(), self._server.acse_timeout)
        except OSError as error:
            LOGGER.warning("TLS handshake with %s failed: %s", self.peer_address, getattr(error, "reason", 0) or error)
            return False
        return True

    # --- Sta2, Sta3 ---------------------------------------------------------------------------------------------

    def _associate(self) -> bool:
        """Whether the association is established; if not, the connection can be closed at once."""
        kind, length = self._wire.header(idle=self._server.acse_timeout, whole=0.0)
        if length > _LONGEST_PDU or kind == _ABORT:
            return False
        if kind != _ASSOCIATE_RQ:
            raise _AbortError(_USER)
        try:
            proposal = Proposal.parse(_PDU.pack(kind, length) + self._wire.take(length))
            self.calling_ae, self.called_ae = proposal.calling_ae, proposal.called_ae
            rejection = self._server.admit(self) if proposal.version_1 else _NO_VERSION_1
            if rejection is not None:
                LOGGER.warning("association from %s rejected: %s", self.peer_address, rejection.words)
                self._server.handlers.refused(self.calling_ae, self.peer_address, rejection.words)
                if self._send_last(rejected(rejection)):
                    self._await_close()
                return False
            answer, self._contexts = proposal.accept()
        except ValueError as error:
            LOGGER.warning("association from %s: %s", self.peer_address, error)
            raise _AbortError(_USER) from error
        self._maximum_length = proposal.maximum_length
        self._wire.send(answer)
        return True

    # --- Sta6, Sta8 ---------------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Until the association is released or aborted; whether the peer is to close the connection."""
        timeout = self._server.network_timeout
        while True:
            # A peer that asked for commitment may stay for the report, or release at once and be told elsewhere.
            if self._normalized.due and self._message is None and self._wire.silent(_NOTIFY_SECONDS):
                self._normalized.notify()
            kind, length = self._wire.header(idle=timeout, whole=timeout)
            if kind not in _KINDS:
                raise _AbortError(_PROVIDER, _UNRECOGNISED_PDU)
            if length > _LONGEST_PDU:
                raise _AbortError(_PROVIDER, _INVALID_PARAMETER)
            if kind == _P_DATA_TF:
                self._p_data(length)
            elif kind == _RELEASE_RQ:
                self._wire.skip(length)
                self._wire.send(_RELEASE_RP_PDU)
                return True
            elif kind == _ABORT:
                return False
            else:
                raise _AbortError(_PROVIDER, _UNEXPECTED_PDU)

    def _p_data(self, length: int) -> None:
        """One P-DATA-TF: its Presentation Data Values (PS3.8 9.3.5, annex E)."""
        while length:
            if length < _PDV.size:
                raise _AbortError(_PROVIDER, _INVALID_PARAMETER)
            item, context_id, control = _PDV.unpack(self._wire.take(_PDV.size))
            if item < 2 or item + 4 > length:
                raise _AbortError(_PROVIDER, _INVALID_PARAMETER)
            length -= item + 4
            self._fragment(context_id, item - 2, is_command=bool(control & 1), is_last=bool(control & 2))

    def _fragment(self, context_id: int, size: int, *, is_command: bool, is_last: bool) -> None:
        if context_id not in self._contexts:
            raise _AbortError(_PROVIDER, _INVALID_PARAMETER)
        message = self._message = self._message or _Message(context_id)
        # All fragments of a message come in its context and before those of the next one (PS3.8 E.1).
        if context_id != message.context_id or is_command != (message.command is None):
            raise _AbortError(_PROVIDER, _INVALID_PARAMETER)
        if message.fault:
            self._wire.skip(size)
        elif message.sink is None:
            if len(message.encoded) + size > (_LONGEST_COMMAND if is_command else _LONGEST_REPORT):
                raise _AbortError(_PROVIDER, _INVALID_PARAMETER)
            message.encoded += self._wire.take(size)
        else:
            for part in self._wire.parts(size):
                self._keep(message, message.sink, part)
        if is_last and is_command:
            self._begin(message)
        if is_last and message.command is not None and not (is_command and message.command.has_data_set):
            self._answer(message, message.command)
            self._message = None
            self._heard_at = time.monotonic()
            if self._server.stopping:
                raise _AbortError(_USER)

    def _begin(self, message: _Message) -> None:
        """The command set is complete."""
        try:
            message.command = command = Command.parse(bytes(message.encoded))
        except ValueError as error:
            LOGGER.warning("association from %s: %s", self.calling_ae, error)
            raise _AbortError(_PROVIDER, _INVALID_PARAMETER) from error
        message.encoded.clear()
        is_request = not command.field & RESPONSE and command.field != C_CANCEL_RQ
        if is_request and not command.has_message_id:  # nothing to answer to
            raise _AbortError(_USER)
        if command.field == C_STORE_RQ and command.has_data_set:
            self._open_sink(message, command)

    def _open_sink(self, message: _Message, command: Command) -> None:
        context = self._contexts[message.context_id]
        request = StoreRequest(
            association=self,
            context_class_uid=context.abstract_syntax,
            transfer_syntax_uid=context.transfer_syntax,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
        )
        try:
            message.sink = self._server.handlers.store(request)
        except Exception:  # the actor's own loop: the sender must get an answer, and the others their service
            LOGGER.exception("C-STORE failed")
            message.fault = True

    def _keep(self, message: _Message, sink: Sink, part: memoryview) -> None:
        if message.fault:
            return
        try:
            sink.write(part)
        except Exception:  # as above
            LOGGER.exception("C-STORE failed")
            message.fault = True

    def _answer(self, message: _Message, command: Command) -> None:
        """The message is complete. Responses and C-CANCEL need no answer: this node asked nothing, and waits never."""
        if command.field & RESPONSE:
            self._normalized.answered(command)
        if command.field & RESPONSE or command.field == C_CANCEL_RQ:
            return
        if command.field in NORMALIZED:
            self._normalized.serve(message.context_id, self._contexts[message.context_id], command, message.encoded)
            return
        status, comment = UNRECOGNISED_OPERATION, ""
        if command.field == C_STORE_RQ:
            refusal = self._stored(message)
            status = SUCCESS if refusal is None else refusal.status
            if refusal is not None:
                comment = refusal.comment
                LOGGER.warning(
                    "%s from %s refused with status 0x%04X: %s",
                    command.sop_instance_uid,
                    self.calling_ae,
                    status,
                    comment,
                )
        elif command.field == C_ECHO_RQ:
            status = SUCCESS
        self._send(message.context_id, command.response(status, comment), True)

    def _stored(self, message: _Message) -> Refusal | None:
        if message.sink is None and not message.fault:
            return Refusal(CANNOT_UNDERSTAND, "no data set")
        if message.sink is not None:
            try:
                if not message.fault:
                    return message.sink.finish()
            except Exception:  # as above
                LOGGER.exception("C-STORE failed")
            message.sink.discard()
        return Refusal(PROCESSING_FAILURE, "node failure; see its log")

    def _send(self, context_id: int, encoded: bytes, is_command: bool) -> None:  # noqa: FBT001 - as PS3.8 E.2 has it
        for pdu in _p_data_pdus(context_id, encoded, self._maximum_length, is_command=is_command):
            self._wire.send(pdu)

    def _forget_message(self) -> None:
        if self._message is not None and self._message.sink is not None:
            self._message.sink.discard()
        self._message = None

    # --- Sta13 --------------------------------------------------------------------------------------------------

    def _send_last(self, pdu: bytes) -> bool:
        """Send a PDU after which the peer is to close the connection; whether it could be sent."""
        with suppress(OSError):
            self._wire.send(pdu)
            return True
        return False

    def _await_close(self) -> None:
        with suppress(OSError):
            until = time.monotonic() + min(self._server.acse_timeout, self._server.network_timeout)
            while (remaining := until - time.monotonic()) > 0:
                self._wire.ignore(remaining)


_NO_VERSION_1 = Rejection(1, 2, 2, "protocol version not supported")


def _p_data_pdus(context_id: int, encoded: bytes, maximum_length: int, *, is_command: bool) -> Iterator[bytes]:
    """A command set or a data set in P-DATA-TF PDUs that the peer takes (PS3.8 D.1)."""
    size = max(maximum_length - _PDV.size, 2) if maximum_length else len(encoded)
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        control = is_command | (0 if start + size < len(encoded) else 2)
        yield _PDU.pack(_P_DATA_TF, len(part) + _PDV.size) + _PDV.pack(len(part) + 2, context_id, control) + part

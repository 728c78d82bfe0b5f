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
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.ledger import AssociationEnding
from node.ledger.association_endings import Ending
from node.receive.messages import Messages, Services
from node.receive.negotiation import Proposal, rejected
from node.receive.pdu import (
    ABORT,
    ASSOCIATE_RQ,
    HEADER,
    INVALID_PARAMETER,
    KINDS,
    LONGEST,
    P_DATA_TF,
    PROVIDER,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    UNRECOGNISED_PDU,
    USER,
    AbortError,
)
from node.receive.pdu_stream import PduStream
from node.receive.policy import Admission, Rejection
from node.tls import PeerCertificate

if TYPE_CHECKING:
    from node.receive.server import Server

LOGGER = logging.getLogger(__name__)

_NOTIFY_SECONDS = 1.0
"""Silence of a peer after which it seems to wait on this association for what it is to be told."""
_NO_VERSION_1 = Rejection(1, 2, 2, "protocol version not supported")


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """What the receiver does with what comes."""

    services: Services
    closed: Callable[[Association, Ending], None]
    """An association ended, however it ended."""
    refused: Callable[[str, str, str], None]
    """A caller (title, address) was turned away, and why."""


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
        self.admission = Admission()
        self._server = server
        self._stream = PduStream(connection, server.network_timeout)
        self._messages = Messages(self, self._stream, server.handlers.services)
        self._heard_at = time.monotonic()
        self._how = AssociationEnding.LOST

    @property
    def is_busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self._messages.is_busy

    @property
    def silent_seconds(self) -> float:
        """Since the connection was opened or the last message was answered."""
        return time.monotonic() - self._heard_at

    def run(self) -> None:
        """Serve until the association ends; whatever happens, its end is told and its connection closed."""
        linger = False
        try:
            linger = self._secure() and self._associate() and self._serve()
        except AbortError as error:
            self._how = AssociationEnding.STOPPED if self._server.stopping else AssociationEnding.ABORTED
            linger = self._send_last(error.pdu)
        except TimeoutError as error:  # nobody is there to wait for
            self._how = AssociationEnding.TIMED_OUT
            LOGGER.warning("association from %s ended: %s", self.peer_address, error)
            self._send_last(AbortError(PROVIDER).pdu)
        except OSError as error:
            if self._server.stopping:
                self._how = AssociationEnding.STOPPED
                self._send_last(AbortError(USER).pdu)
            elif self.is_busy:
                LOGGER.warning("association from %s lost in the middle of a message: %s", self.peer_address, error)
        except Exception:  # the actor's own loop: one peer's fault is not another's
            LOGGER.exception("association from %s failed", self.peer_address)
            self._send_last(AbortError(PROVIDER).pdu)
        finally:
            ending = Ending(self._how, self._messages.amid if self._how != AssociationEnding.RELEASED else None)
            self._messages.discard()
            self._server.leave(self, ending)
            if linger and not self._server.stopping:
                self._await_close()
            self._stream.close()
            self._server.gone(self)

    def end(self) -> None:
        """End it from another thread: what waits for the peer waits no longer."""
        self._stream.interrupt()
        self.join(timeout=5.0)

    def _secure(self) -> bool:
        """The TLS handshake, where TLS is spoken; whether it came to an end. The ARTIM timer runs already."""
        if self._server.tls is None:
            return True
        try:
            self.certificate = self._stream.secure(self._server.tls.context(), self._server.acse_timeout)
        except OSError as error:
            LOGGER.warning("TLS handshake with %s failed: %s", self.peer_address, getattr(error, "reason", 0) or error)
            return False
        return True

    # --- Sta2, Sta3 ---------------------------------------------------------------------------------------------

    def _associate(self) -> bool:
        """Whether the association is established; if not, the connection can be closed at once."""
        kind, length = self._stream.header(idle=self._server.acse_timeout, whole=0.0)
        if length > LONGEST or kind == ABORT:
            return False
        if kind != ASSOCIATE_RQ:
            raise AbortError(USER)
        try:
            proposal = Proposal.parse(HEADER.pack(kind, length) + self._stream.take(length))
            self.calling_ae, self.called_ae = proposal.calling_ae, proposal.called_ae
            rejection = self._server.admit(self) if proposal.version_1 else _NO_VERSION_1
            if rejection is not None:
                LOGGER.warning("association from %s rejected: %s", self.peer_address, rejection.words)
                self._server.handlers.refused(self.calling_ae, self.peer_address, rejection.words)
                if self._send_last(rejected(rejection)):
                    self._await_close()
                return False
            if beyond := sorted(proposal.beyond(self.admission.services)):
                words = f"{self.calling_ae} may not use {', '.join(beyond)}"
                LOGGER.warning("association from %s: %s", self.peer_address, words)
                self._server.handlers.refused(self.calling_ae, self.peer_address, words)
            answer, self._messages.contexts = proposal.accept(self.admission.services)
        except ValueError as error:
            LOGGER.warning("association from %s: %s", self.peer_address, error)
            raise AbortError(USER) from error
        self._messages.maximum_length = proposal.maximum_length
        self._stream.send(answer)
        return True

    # --- Sta6, Sta8 ---------------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Until the association is released or aborted; whether the peer is to close the connection."""
        timeout = self._server.network_timeout
        while True:
            # A peer that asked for commitment may stay for the report, or release at once and be told elsewhere.
            if self._messages.normalized.due and not self.is_busy and self._stream.silent(_NOTIFY_SECONDS):
                self._messages.normalized.notify()
            kind, length = self._stream.header(idle=timeout, whole=timeout)
            if kind not in KINDS:
                raise AbortError(PROVIDER, UNRECOGNISED_PDU)
            if length > LONGEST:
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            if kind == P_DATA_TF:
                if self._messages.take(length):
                    self._heard_at = time.monotonic()
                    if self._server.stopping:
                        raise AbortError(USER)
            elif kind == RELEASE_RQ:
                self._stream.skip(length)
                self._how = AssociationEnding.RELEASED
                self._stream.send(RELEASE_RP_PDU)
                return True
            elif kind == ABORT:
                self._how = AssociationEnding.ABORTED
                return False
            else:
                raise AbortError(PROVIDER, UNEXPECTED_PDU)

    # --- Sta13 --------------------------------------------------------------------------------------------------

    def _send_last(self, pdu: bytes) -> bool:
        """Send a PDU after which the peer is to close the connection; whether it could be sent."""
        with suppress(OSError):
            self._stream.send(pdu)
            return True
        return False

    def _await_close(self) -> None:
        with suppress(OSError):
            until = time.monotonic() + min(self._server.acse_timeout, self._server.network_timeout)
            while (remaining := until - time.monotonic()) > 0:
                self._stream.ignore(remaining)

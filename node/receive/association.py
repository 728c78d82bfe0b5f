"""One association, served by one thread: the acceptor's part of the state table in PS3.8 9.2.3.

======  ==================================  ======================================================================
state   meaning                             here
======  ==================================  ======================================================================
Sta2    awaiting A-ASSOCIATE-RQ             ``_associate``; ARTIM timer runs; other PDU: AA-1, A-ABORT: AA-2
Sta3    awaiting the local answer           ``_associate``; accepted: AE-7, rejected: AE-8
Sta6    established                         ``_serve``; P-DATA-TF: DT-2; A-ABORT: AA-3; closed: AA-4; other PDU: AA-8
Sta8    awaiting the local release answer   A-RELEASE-RQ (AR-2) is answered at once (AR-4)
Sta13   awaiting the close of the           ``_await_close``; ARTIM timer runs; further input is ignored (AA-6)
        connection                          until the peer closes (AR-5) or the timer expires (AA-2)
======  ==================================  ======================================================================

Sta1 has no connection; Sta4, 5, 7 and 9 to 12 belong to the requestor or to a release that the acceptor requests,
which this node never does. There is no release collision, and an A-RELEASE-RP is an unexpected PDU (AA-8). No second
A-ABORT is sent in Sta13 (AA-7): after the first one the peer's framing cannot be trusted.
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
from typing import Protocol

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
    LONGEST_REQUEST,
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
from node.tls import PeerCertificate, ServerTls

LOGGER = logging.getLogger(__name__)

_NOTIFY_SECONDS = 1.0
"""A peer that is silent for this long seems to wait on this association for its notification."""
_NO_VERSION_1 = Rejection(1, 2, 2, "protocol version not supported")


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """What the receiver does with messages and associations."""

    services: Services
    closed: Callable[[Association, Ending], None]
    """Called when an association has ended in any way."""
    refused: Callable[[str, str, str], None]
    """Called with AE title, address and reason when a caller was refused something."""


class AssociationServer(Protocol):
    """What an association needs of the server that accepted its connection."""

    @property
    def handlers(self) -> Handlers: ...

    @property
    def tls(self) -> ServerTls | None: ...

    @property
    def acse_timeout(self) -> float: ...

    @property
    def network_timeout(self) -> float: ...

    @property
    def transfer_timeout(self) -> float: ...

    @property
    def stopping(self) -> bool: ...

    def identified(self, association: Association) -> bool:
        """Return whether the peer that a proxy stated may have one more connection."""

    def admit(self, association: Association) -> Rejection | None:
        """Admit an association, or return why it is rejected."""

    def association_ended(self, association: Association, ending: Ending) -> None:
        """Free the slots of an association; its connection may still be open."""

    def connection_closed(self, association: Association) -> None:
        """Remove a connection that is closed."""


class Association(threading.Thread):
    """Serves one connection from its A-ASSOCIATE-RQ to its end."""

    def __init__(
        self, server: AssociationServer, connection: socket.socket, peer_address: str, *, is_proxied: bool = False
    ) -> None:
        """``is_proxied``: the connection begins with a header of a proxy, which states its peer."""
        self.id = uuid.uuid4().hex
        super().__init__(name=f"association-{self.id}", daemon=True)
        self.peer_address = peer_address
        self.opened_at = time.time()
        self.calling_ae = self.called_ae = ""
        self.certificate: PeerCertificate | None = None
        """What the peer presented in the TLS handshake."""
        self.admission = Admission()
        self._server = server
        self._is_proxied = is_proxied
        self._stream = PduStream(connection, server.network_timeout)
        self._messages = Messages(self, self._stream, server.handlers.services, server.transfer_timeout)
        self._last_message_at = time.monotonic()
        self._ending = AssociationEnding.LOST

    @property
    def is_busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self._messages.is_busy

    @property
    def silent_seconds(self) -> float:
        """Seconds since the connection was opened or the last message was answered."""
        return time.monotonic() - self._last_message_at

    def run(self) -> None:
        """Serve until the association ends; always report its end and close the connection."""
        linger = False
        try:
            linger = self._identify() and self._secure() and self._associate() and self._serve()
        except AbortError as error:
            self._ending = AssociationEnding.STOPPED if self._server.stopping else AssociationEnding.ABORTED
            linger = self._send_last(error.pdu)
        except TimeoutError as error:  # no lingering: the peer no longer responds
            self._ending = AssociationEnding.TIMED_OUT
            LOGGER.warning("association from %s timed out: %s", self.peer_address, error)
            self._send_last(AbortError(PROVIDER).pdu)
        except OSError as error:
            if self._server.stopping:
                self._ending = AssociationEnding.STOPPED
                self._send_last(AbortError(USER).pdu)
            elif self.is_busy:
                LOGGER.warning("association from %s lost during a message: %s", self.peer_address, error)
        except Exception:  # the actor's own loop: a fault of one association must not affect others
            LOGGER.exception("association from %s failed", self.peer_address)
            self._send_last(AbortError(PROVIDER).pdu)
        finally:
            ending = Ending(self._ending, self._messages.amid if self._ending != AssociationEnding.RELEASED else None)
            self._messages.discard_incomplete()
            self._server.association_ended(self, ending)
            if linger and not self._server.stopping:
                self._await_close()
            self._stream.close()
            self._server.connection_closed(self)

    def end(self) -> None:
        """End the association from another thread by interrupting its wait for the peer."""
        self._stream.interrupt()
        self.join(timeout=5.0)

    def _identify(self) -> bool:
        """Behind a proxy, read who the peer is; return whether the connection goes on."""
        if not self._is_proxied:
            return True
        proxy = self.peer_address
        try:
            stated = self._stream.proxied_address(self._server.acse_timeout)
        except (OSError, ValueError) as error:
            LOGGER.warning("connection of the proxy %s closed: %s; let it send one (send-proxy-v2)", proxy, error)
            return False
        if not stated:
            return True
        self.peer_address = stated
        return self._server.identified(self)

    def _secure(self) -> bool:
        """Do the TLS handshake if TLS is enabled; return whether it succeeded. The ARTIM timer is running."""
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
        """Return whether the association is established; if not, the connection can be closed immediately."""
        kind, length = self._stream.header(idle=self._server.acse_timeout, whole=0.0)
        if length > LONGEST_REQUEST or kind == ABORT:
            return False
        if kind != ASSOCIATE_RQ:
            raise AbortError(USER)
        try:
            proposal = Proposal.parse(HEADER.pack(kind, length) + self._stream.read(length))
            self.calling_ae, self.called_ae = proposal.calling_ae, proposal.called_ae
            rejection = self._server.admit(self) if proposal.version_1 else _NO_VERSION_1
            if rejection is not None:
                LOGGER.warning("association from %s rejected: %s", self.peer_address, rejection.description)
                self._server.handlers.refused(self.calling_ae, self.peer_address, rejection.description)
                if self._send_last(rejected(rejection)):
                    self._await_close()
                return False
            if excluded := sorted(proposal.services_beyond(self.admission.services)):
                description = f"{self.calling_ae} may not use {', '.join(excluded)}"
                LOGGER.warning("association from %s: %s", self.peer_address, description)
                self._server.handlers.refused(self.calling_ae, self.peer_address, description)
            answer, self._messages.contexts = proposal.accept(self.admission.services)
        except ValueError as error:
            LOGGER.warning("association from %s: %s", self.peer_address, error)
            raise AbortError(USER) from error
        self._messages.maximum_length = proposal.maximum_length
        self._stream.send(answer)
        return True

    # --- Sta6, Sta8 ---------------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Serve until release or abort; return whether the peer closes the connection next."""
        timeout = self._server.network_timeout
        while True:
            # A peer that requested commitment may wait for the report here, or release and get it on another one.
            if self._messages.normalized.has_pending and not self.is_busy and self._stream.is_silent(_NOTIFY_SECONDS):
                self._messages.normalized.notify()
            kind, length = self._stream.header(idle=timeout, whole=timeout)
            if kind not in KINDS:
                raise AbortError(PROVIDER, UNRECOGNISED_PDU)
            if length > LONGEST:
                raise AbortError(PROVIDER, INVALID_PARAMETER)
            if kind == P_DATA_TF:
                if self._messages.take(length):
                    self._last_message_at = time.monotonic()
                    if self._server.stopping:
                        raise AbortError(USER)
            elif kind == RELEASE_RQ:
                self._stream.discard(length)
                self._ending = AssociationEnding.RELEASED
                self._stream.send(RELEASE_RP_PDU)
                return True
            elif kind == ABORT:
                self._ending = AssociationEnding.ABORTED
                return False
            else:
                raise AbortError(PROVIDER, UNEXPECTED_PDU)

    # --- Sta13 --------------------------------------------------------------------------------------------------

    def _send_last(self, pdu: bytes) -> bool:
        """Send a PDU after which the peer closes the connection; return whether it was sent."""
        with suppress(OSError):
            self._stream.send(pdu)
            return True
        return False

    def _await_close(self) -> None:
        with suppress(OSError):
            until = time.monotonic() + min(self._server.acse_timeout, self._server.network_timeout)
            while (remaining := until - time.monotonic()) > 0:
                self._stream.discard_input(remaining)

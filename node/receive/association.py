"""pynetdicom's acceptor with its weak points mended; with ``transport`` the only module that uses its inner names.

What is mended, each with a test of its own: connections that never associate do not use up the limit of associations;
private storage classes are served without opening the node for every service; a C-STORE with an unusable UID is
answered instead of ignored; a slow answer does not end the association; a C-STORE under way is finished at shutdown.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationServer, RequestHandler

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.receive.policy import Policy, Rejection, supported_contexts
from node.receive.status import CANNOT_UNDERSTAND, PROCESSING_FAILURE, SUCCESS, Refusal
from node.receive.transport import PduSocket, WaitingMessages, WaitingUpperLayer

LOGGER = logging.getLogger(__name__)

MAXIMUM_PDU = 1 << 17
"""Maximum Length Received (PS3.8 D.1), bytes: dcmtk's greatest, eight times fewer PDUs than the usual 16 KiB."""
_WAITING = 64
"""Connections that have not associated yet, beside the associations; more are closed at once."""


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """A C-STORE-RQ as it came, nothing checked. ``stream`` is the encoded data set."""

    association: Acceptor
    context_class_uid: str
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    stream: Any


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """What the receiver does; a handler's return value is the answer to the peer."""

    store: Callable[[StoreRequest], Refusal | None]
    """``None`` is Success: the instance is durable then."""
    event_report: Callable[[evt.Event], int]
    """Status of an N-EVENT-REPORT."""
    closed: Callable[[str], None]
    """An association with this id ended, however it ended."""


class Acceptor(Association):
    """One association that a peer opened."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.ae, "acceptor")
        self.dimse = WaitingMessages(self)
        self.dul = WaitingUpperLayer(self)
        self.acse_timeout, self.network_timeout = self.ae.acse_timeout, self.ae.network_timeout  # kept in the new one
        self.id = uuid.uuid4().hex
        self.opened_at = time.time()
        self._server: Server = server
        self._served = threading.Lock()
        self.calling_ae = self.called_ae = ""

    @property
    def peer_address(self) -> str:
        return str(self.requestor.address)

    @property
    def is_busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self.dimse.message is not None or not self.dimse.msg_queue.empty() or self._served.locked()

    def run_reactor(self) -> None:
        """Serve until the association ends; whatever happens, its end is told."""
        try:
            super().run_reactor()
        finally:
            cast("PduSocket", self.dul.socket).release()
            self._server.leave(self)

    def end(self) -> None:
        """End it from outside: an A-ABORT, and where the peer is stalled or silent its connection is shut."""
        if self.is_busy or not self.is_established:
            connection = cast("PduSocket", self.dul.socket).socket
            if connection is not None:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        if self.is_established:
            self.abort()
        else:
            self.dul.to_user_queue.put(None)  # what it waits for will not come
        self.join(timeout=5.0)

    def negotiate(self) -> None:
        """Decide about the A-ASSOCIATE-RQ before pynetdicom does: reject it, or say what is supported here."""
        request = cast("A_ASSOCIATE", self.requestor.primitive)
        self.calling_ae = str(request.calling_ae_title).strip()
        self.called_ae = str(request.called_ae_title).strip()
        rejection = self._server.admit(self)
        if rejection is not None:
            LOGGER.warning("association from %s rejected: %s", self.peer_address, rejection.words)
            self.acse.send_reject(rejection.result, rejection.source, rejection.reason)
            self.kill()
            return
        self.acceptor.supported_contexts = supported_contexts(
            (str(context.abstract_syntax), [str(uid) for uid in context.transfer_syntax])
            for context in request.presentation_context_definition_list
        )

    def _serve_request(self, msg: Any, context_id: int) -> None:
        with self._served:
            if isinstance(msg, C_STORE) and context_id in self._accepted_cx and not self._sent_release:
                self._serve_store(msg, context_id)
            else:
                super()._serve_request(msg, context_id)
            # The time that the answer took is not the peer's silence.
            self.dul._idle_timer.restart()  # noqa: SLF001
        if self._server.stopping:
            self.abort()

    def _serve_store(self, msg: C_STORE, context_id: int) -> None:
        if msg.MessageID is None:  # nothing to answer to
            self.abort()
            return
        context = self._accepted_cx[context_id]
        answer = C_STORE()
        answer.MessageIDBeingRespondedTo = msg.MessageID
        answer.AffectedSOPClassUID = msg.AffectedSOPClassUID
        answer.AffectedSOPInstanceUID = msg.AffectedSOPInstanceUID
        refusal = self._store(msg, str(context.abstract_syntax), str(context.transfer_syntax[0]))
        answer.Status = SUCCESS if refusal is None else refusal.status
        if refusal is not None:
            answer.ErrorComment = refusal.comment
            LOGGER.warning(
                "%s from %s refused with status 0x%04X: %s",
                msg.AffectedSOPInstanceUID,
                self.calling_ae,
                refusal.status,
                refusal.comment,
            )
        msg.DataSet = None
        self.dimse.send_msg(answer, context_id)

    def _store(self, msg: C_STORE, context_class_uid: str, transfer_syntax_uid: str) -> Refusal | None:
        if msg.DataSet is None:
            return Refusal(CANNOT_UNDERSTAND, "no data set")
        request = StoreRequest(
            association=self,
            context_class_uid=context_class_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            sop_class_uid=str(msg.AffectedSOPClassUID or ""),
            sop_instance_uid=str(msg.AffectedSOPInstanceUID or ""),
            stream=msg.DataSet,
        )
        try:
            return self._server.handlers.store(request)
        except Exception:  # the actor's own loop: the sender must get an answer, and the others their service
            LOGGER.exception("C-STORE of %s failed", request.sop_instance_uid)
            return Refusal(PROCESSING_FAILURE, "node failure; see its log")


class _Request(RequestHandler):
    """Makes our own association of a new connection."""

    def _create_association(self) -> Association:
        server = cast("Server", self.server)
        association = Acceptor(server)
        association.name = f"AcceptorThread@{association.id}"  # pynetdicom finds its threads by this name
        association.set_socket(PduSocket(association, self.request, server.network_timeout))
        association.acceptor.maximum_length = server.ae.maximum_pdu_size
        association.acceptor.ae_title = server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        association.acceptor.implementation_version_name = server.ae.implementation_version_name
        association.requestor.address_info = self.remote
        association.bind(evt.EVT_REQUESTED, lambda event: event.assoc.negotiate())
        association.bind(evt.EVT_N_EVENT_REPORT, lambda event: (server.handlers.event_report(event), None))
        return association


class Server(AssociationServer):
    """Listens and accepts; a thread calls ``serve_forever``."""

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        *,
        policy: Policy,
        network_timeout: float,
        handlers: Handlers,
    ) -> None:
        """Bind and listen. Raises ``OSError`` when the address is taken or not ours."""
        self.policy = policy
        self.network_timeout = network_timeout
        self.handlers = handlers
        self.stopping = False
        self._admission = threading.Lock()
        self._admitted: set[str] = set()
        self.request_queue_size = 128
        super().__init__(entity, address, entity.ae_title, [build_context(Verification)], request_handler=_Request)

    def admit(self, association: Acceptor) -> Rejection | None:
        """Let an association in, or say why not; connections that have not associated do not count."""
        with self._admission:
            rejection = self.policy.rejection(
                calling=association.calling_ae,
                called=association.called_ae,
                address=association.peer_address,
                open_associations=len(self._admitted),
            )
            if rejection is None:
                self._admitted.add(association.id)
        return rejection

    def leave(self, association: Acceptor) -> None:
        """An association or connection ended."""
        with self._admission:
            admitted = association.id in self._admitted
            self._admitted.discard(association.id)
        if admitted:
            self.handlers.closed(association.id)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Close a new connection at once when too many others have not associated yet."""
        if len(self.active_associations) < self.policy.max_associations + _WAITING:
            return True
        LOGGER.warning("connection from %s closed: too many connections that do not associate", client_address[0])
        return False

    def drain(self, seconds: float) -> None:
        """Stop listening, let every C-STORE under way be answered, then end the associations.

        Associations that are still busy after ``seconds`` are aborted; what they were sending is not acknowledged.
        """
        self.stopping = True
        self.shutdown()
        deadline = time.monotonic() + seconds
        while any(association.is_busy for association in self._acceptors()) and time.monotonic() < deadline:
            time.sleep(0.01)
        remaining = self._acceptors()
        with ThreadPoolExecutor(max_workers=len(remaining) + 1) as pool:
            pool.map(Acceptor.end, remaining)

    def _acceptors(self) -> list[Acceptor]:
        return [cast("Acceptor", association) for association in self.active_associations]

    def shutdown(self) -> None:
        """Leave ``serve_forever`` and close the listening socket."""
        super(AssociationServer, self).shutdown()
        self.server_close()


def listen(
    *,
    title: str,
    address: tuple[str, int],
    policy: Policy,
    acse_timeout: float,
    network_timeout: float,
    handlers: Handlers,
) -> Server:
    """A listening server. Raises ``OSError`` when the address is taken or not ours."""
    # Process-wide settings of pynetdicom. Its own handlers would log whole messages, patient names among them.
    _config.LOG_HANDLER_LEVEL = "none"
    # A title or UID outside the standard's repertoire must not end the association: we refuse what it names.
    _config.CODECS = ("ascii", "latin-1")
    _config.VALIDATORS["UI"] = lambda _value: (True, "")
    entity = AE(ae_title=title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = MAXIMUM_PDU
    entity.maximum_associations = 1_000_000  # our policy counts, and only those that are established
    entity.acse_timeout = acse_timeout
    entity.dimse_timeout = network_timeout
    entity.network_timeout = network_timeout
    return Server(entity, address, policy=policy, network_timeout=network_timeout, handlers=handlers)

"""One association to a destination, with timeouts on every step and failures explained in plain words."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.config import Destination, DestinationTls, Worklist
from node.deliver.query_audit import OnQuery, audit_query
from node.errors import ConfigError, DeliveryError, RejectedError, UnreachableError
from node.tls import client_context


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a peer may be silent before it counts as hanging, in seconds."""

    connect_seconds: float = 10.0
    """Until the TCP connection is established."""
    answer_seconds: float = 30.0
    """Until an association, release, C-ECHO or N-ACTION request is answered."""
    store_seconds: float = 60.0
    """Until a C-STORE request is answered, in addition to the time for its bytes."""
    stall_seconds: float = 30.0
    """Until the peer receives or sends the next bytes of a PDU."""
    report_seconds: float = 5.0
    """How long an association stays open for the report on a Storage Commitment request."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A destination with its name; ``str()`` names it in messages."""

    name: str
    title: str
    host: str
    port: int
    tls: DestinationTls
    table: str = ""
    """Table of ``config.toml`` that a remedy names; empty: that of the destination of this name."""

    @classmethod
    def of(cls, name: str, destination: Destination) -> Peer:
        return cls(
            name=name, title=destination.title, host=destination.host, port=destination.port, tls=destination.tls
        )

    @classmethod
    def of_worklist(cls, worklist: Worklist) -> Peer:
        return cls(
            name="worklist",
            title=worklist.title,
            host=worklist.host,
            port=worklist.port,
            tls=worklist.tls,
            table="orders.worklist",
        )

    @property
    def place(self) -> str:
        """Name of its table."""
        return self.table or f"destinations.{self.name}"

    def __str__(self) -> str:
        return f"{self.name} ({self.title} at {self.host}:{self.port})"


_ABORT_SECONDS = 2.0
"""How long an A-ABORT may take to be sent."""
_REJECTIONS = {
    (1, 2): "application context not supported; ask its administrator",
    (1, 3): "our AE title {calling!r} is not recognised; ask its administrator to add this node, or change [ae] title",
    (1, 7): "called AE title {called!r} is not recognised; correct title in [{place}]",
    (2, 2): "protocol version not supported; ask its administrator",
    (3, 1): "temporary congestion; the node tries again",
    (3, 2): "its association limit is reached; the node tries again",
}
"""(source, reason) of an A-ASSOCIATE-RJ, PS3.8 table 9-21."""


@contextmanager
def associate(
    peer: Peer,
    calling_title: str,
    contexts: Sequence[PresentationContext],
    timeouts: Timeouts,
    on_event_report: Callable[[evt.Event], tuple[int, None]] | None = None,
    *,
    on_store: Callable[[evt.Event], int] | None = None,
    on_query: OnQuery | None = None,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """Open an association and release it at the end.

    ``on_event_report`` answers N-EVENT-REPORT requests that arrive on it, ``on_store`` C-STORE requests; ``on_query``
    is called for every query that is sent; ``roles`` are proposed (PS3.7 D.3.3.4).
    Raises ``UnreachableError`` or ``RejectedError`` with the reason when it cannot be opened, ``DeliveryError`` when
    the peer accepts none of ``contexts``.
    """
    connections: list[bool] = []

    def opened(event: evt.Event) -> None:
        connections.append(True)
        keep_answers(event.assoc)
        _set_options(event.assoc, timeouts.stall_seconds)

    rejections: list[A_ASSOCIATE_RJ] = []
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, opened),
        (evt.EVT_PDU_RECV, _keep_rejection, [rejections]),
        (evt.EVT_ABORTED, lambda event: _close_soon(event.assoc)),
    ]
    answering = ((evt.EVT_N_EVENT_REPORT, on_event_report), (evt.EVT_C_STORE, on_store))
    handlers += [(event, handler) for event, handler in answering if handler is not None]
    if on_query is not None:
        handlers.append((evt.EVT_DIMSE_SENT, lambda event: audit_query(event, on_query)))
    entity = AE(ae_title=calling_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = timeouts.connect_seconds
    entity.acse_timeout = timeouts.answer_seconds
    entity.dimse_timeout = timeouts.answer_seconds
    entity.network_timeout = max(timeouts.answer_seconds, timeouts.store_seconds)
    try:
        secured = client_context(peer.tls, f"[{peer.place}.tls]") if peer.tls.enabled else None
    except ConfigError as error:  # a file that is being renewed may be incomplete: retry
        raise UnreachableError(f"{peer}: {error}") from error
    try:
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.title,
            evt_handlers=handlers,
            ext_neg=list(roles),
            tls_args=(secured, peer.host) if secured else None,
        )
    except OSError as error:
        raise UnreachableError(
            f"{peer}: the host name cannot be resolved ({error.strerror}); correct host in [{peer.place}]"
        ) from error
    if not association.is_established:
        if association.rejected_contexts:
            raise DeliveryError(f"{peer}: {_no_context_accepted(association)}")
        if rejections:  # the PDU itself: pynetdicom may report a peer that closes at once as unreachable
            raise RejectedError(f"{peer}: {_rejection_text(rejections[0], peer, calling_title)}")
        reason = _no_answer(peer, calling_title) if connections else _connection_failure(peer, timeouts, secured)
        raise UnreachableError(f"{peer}: {reason}")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def keep_answers(association: Association) -> Association:
    """Leave each answer to the thread that waits for it; return ``association``.

    Before a request, pynetdicom pauses its own thread, but that thread says that it is paused a moment before it is.
    On a busy machine it may still take the answer in that moment; the request then times out although it was answered.
    """
    take = association.dimse.get_msg

    def get_msg(*, block: bool) -> Any:
        waited_for = not association._reactor_checkpoint.is_set()  # noqa: SLF001 - cleared during a request
        return (None, None) if waited_for and not block else take(block=block)

    association.dimse.get_msg = get_msg
    return association


def _set_options(association: Association, stall_seconds: float) -> None:
    """Set kernel timeouts for sends and receives without progress, for which pynetdicom would wait forever.

    TCP_NODELAY sends the last part of a PDU without waiting for a delayed acknowledgement.
    """
    connection: socket.socket = association.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(connection, ssl.SSLSocket):  # OpenSSL would retry after the kernel's timeout
        connection.settimeout(stall_seconds)
        return
    whole = int(stall_seconds)
    limit = struct.pack("ll", whole, int((stall_seconds - whole) * 1e6))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)


def close_connection(association: Association) -> None:
    """Close the connection of an association at once; whoever waits for the peer notices. Any thread may call."""
    if association.dul.is_alive() and association.dul.socket is not None:
        with suppress(OSError, AttributeError):  # it was closed at this moment
            association.dul.socket.socket.shutdown(socket.SHUT_RDWR)


def _close_soon(association: Association) -> None:
    """Close the connection of an aborted association whose PDU does not end.

    pynetdicom waits for its end without a limit, so that a peer that sends a byte now and then would never let go.
    """
    timer = threading.Timer(_ABORT_SECONDS, close_connection, [association])
    timer.daemon = True
    timer.start()


def _keep_rejection(event: evt.Event, rejections: list[A_ASSOCIATE_RJ]) -> None:
    if isinstance(event.pdu, A_ASSOCIATE_RJ):
        rejections.append(event.pdu)


def _no_context_accepted(association: Association) -> str:
    refused = sorted({UID(context.abstract_syntax).name for context in association.rejected_contexts})
    return f"it accepts none of the SOP Classes to send ({', '.join(refused)}); ask its administrator to allow them"


def _rejection_text(answer: A_ASSOCIATE_RJ, peer: Peer, calling_title: str) -> str:
    words = _REJECTIONS.get((answer.source, answer.reason_diagnostic), "no reason given; ask its administrator")
    return "association rejected: " + words.format(calling=calling_title, called=peer.title, place=peer.place)


def _no_answer(peer: Peer, calling_title: str) -> str:
    remedy = "that it accepts our certificate" if peer.tls.enabled else "that the port is a DICOM port"
    # The rejection is lost if the peer closes the connection before it has read the whole request.
    return (
        f"it accepted the connection but did not answer the association request; check {remedy}, "
        f"that its AE title is {peer.title!r} and that it knows {calling_title!r}"
    )


def _tls_failure(connection: socket.socket, peer: Peer, secured: ssl.SSLContext) -> str:
    try:
        secured.wrap_socket(connection, server_hostname=peer.host).close()
    except ssl.SSLCertVerificationError as error:
        table = f"[{peer.place}.tls]"
        return f"its certificate is not accepted ({error.verify_message}); correct ca, crl or check_host in {table}"
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        return f"the TLS handshake failed ({why}); check that it supports TLS 1.2 or 1.3 and accepts our certificate"
    return "the connection was lost; the node tries again"


def _connection_failure(peer: Peer, timeouts: Timeouts, secured: ssl.SSLContext | None) -> str:
    """Connect once more to find out why the connection failed, which pynetdicom does not report."""
    try:
        with socket.create_connection((peer.host, peer.port), timeouts.connect_seconds) as connection:
            if secured is not None:
                return _tls_failure(connection, peer, secured)
    except ConnectionRefusedError:
        return "connection refused; check that it is running, and its port"
    except TimeoutError:
        return f"no connection within {timeouts.connect_seconds:g} s; check address and firewall"
    except OSError as error:
        return f"cannot be reached ({error.strerror or error}); check address and network"
    return "the connection was lost; the node tries again"

"""One association to a destination: a timeout on everything that can hang, and every failure in plain words."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.config import Destination, DestinationTls
from node.deliver.query_audit import QueryRecorder, audit_query
from node.errors import ConfigError, DeliveryError, UnreachableError
from node.tls import client_context


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a peer may be silent before it counts as hanging, in seconds."""

    connect_seconds: float = 10.0
    """Until the TCP connection stands."""
    answer_seconds: float = 30.0
    """Until an association, release, C-ECHO or N-ACTION request is answered."""
    store_seconds: float = 60.0
    """Until a C-STORE request is answered, beside the time that its bytes need."""
    stall_seconds: float = 30.0
    """Until it takes, or sends, the next bytes of a PDU that has begun."""
    report_seconds: float = 5.0
    """How long an association is kept open for the answer to a Storage Commitment request on it."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A destination with its name; ``str()`` is how messages speak of it."""

    name: str
    title: str
    host: str
    port: int
    tls: DestinationTls

    @classmethod
    def of(cls, name: str, destination: Destination) -> Peer:
        return cls(
            name=name, title=destination.title, host=destination.host, port=destination.port, tls=destination.tls
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.title} at {self.host}:{self.port})"


_REJECTIONS = {
    (1, 2): "application context not supported; it does not speak DICOM as this node does",
    (1, 3): "our AE title {calling!r} is not recognised; let its administrator add this node, or change [ae] title",
    (1, 7): "it does not answer to the AE title {called!r}; correct title in [destinations.{name}]",
    (2, 2): "protocol version not supported; it does not speak DICOM as this node does",
    (3, 1): "temporary congestion; it is busy, the node tries again",
    (3, 2): "its limit of associations is reached; the node tries again",
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
    record_query: QueryRecorder | None = None,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """An established association, released at the end.

    ``on_event_report`` answers N-EVENT-REPORT requests that arrive on it, ``on_store`` C-STORE requests;
    ``record_query`` gets every query that is sent; ``roles`` are proposed (PS3.7 D.3.3.4).
    Raises ``UnreachableError`` with the reason when it cannot be had, ``DeliveryError`` when the peer takes none of
    ``contexts``.
    """
    connected: list[bool] = []

    def opened(event: evt.Event) -> None:
        connected.append(True)
        _set_options(event.assoc, timeouts.stall_seconds)

    rejections: list[A_ASSOCIATE_RJ] = []
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, opened), (evt.EVT_PDU_RECV, _keep_rejection, [rejections])]
    if on_event_report is not None:
        handlers.append((evt.EVT_N_EVENT_REPORT, on_event_report))
    if on_store is not None:
        handlers.append((evt.EVT_C_STORE, on_store))
    if record_query is not None:
        handlers.append((evt.EVT_DIMSE_SENT, lambda event: audit_query(event, record_query)))
    entity = AE(ae_title=calling_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = timeouts.connect_seconds
    entity.acse_timeout = timeouts.answer_seconds
    entity.dimse_timeout = timeouts.answer_seconds
    entity.network_timeout = max(timeouts.answer_seconds, timeouts.store_seconds)
    try:
        secured = client_context(peer.tls, f"[destinations.{peer.name}.tls]") if peer.tls.enabled else None
    except ConfigError as error:  # a renewed file may be half written: no reason to give a delivery up
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
            f"{peer}: the host name is not known ({error.strerror}); correct host in [destinations.{peer.name}]"
        ) from error
    if not association.is_established:
        if association.rejected_contexts:
            raise DeliveryError(f"{peer}: {_nothing_accepted(association)}")
        reason = _refusal(rejections, peer, calling_title) if connected else _unreachable(peer, timeouts, secured)
        raise UnreachableError(f"{peer}: {reason}")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _set_options(association: Association, stall_seconds: float) -> None:
    """Let the kernel end a send or a receive that makes no progress: pynetdicom would wait in it for ever.

    And let it send the last part of a PDU at once, instead of waiting for a delayed acknowledgement.
    """
    connection: socket.socket = association.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(connection, ssl.SSLSocket):  # OpenSSL takes the kernel's timeout for a reason to try again
        connection.settimeout(stall_seconds)
        return
    whole = int(stall_seconds)
    limit = struct.pack("ll", whole, int((stall_seconds - whole) * 1e6))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)


def _keep_rejection(event: evt.Event, rejections: list[A_ASSOCIATE_RJ]) -> None:
    if isinstance(event.pdu, A_ASSOCIATE_RJ):
        rejections.append(event.pdu)


def _nothing_accepted(association: Association) -> str:
    refused = sorted({UID(context.abstract_syntax).name for context in association.rejected_contexts})
    return f"it accepts none of what we have to send ({', '.join(refused)}); let its administrator allow this"


def _refusal(rejections: Sequence[A_ASSOCIATE_RJ], peer: Peer, calling_title: str) -> str:
    # From the PDU: when a peer rejects and hangs up at once, pynetdicom can take it for one that was never there.
    for answer in rejections:
        words = _REJECTIONS.get((answer.source, answer.reason_diagnostic), "no reason given; ask its administrator")
        return "association rejected: " + words.format(calling=calling_title, called=peer.title, name=peer.name)
    remedy = "that it accepts our certificate" if peer.tls.enabled else "that the port is a DICOM port"
    # Who rejects and hangs up before all of our request was read makes the network drop the rejection.
    return (
        f"it took the connection but did not answer the association request; check {remedy}, "
        f"and that it answers to the AE title {peer.title!r} and knows {calling_title!r}"
    )


def _insecure(connection: socket.socket, peer: Peer, secured: ssl.SSLContext) -> str:
    try:
        secured.wrap_socket(connection, server_hostname=peer.host).close()
    except ssl.SSLCertVerificationError as error:
        table = f"[destinations.{peer.name}.tls]"
        return f"its certificate is not accepted ({error.verify_message}); correct ca, crl or check_host in {table}"
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        return f"the TLS handshake failed ({why}); check that it speaks TLS 1.2 or 1.3 and accepts our certificate"
    return "the connection was lost; the node tries again"


def _unreachable(peer: Peer, timeouts: Timeouts, secured: ssl.SSLContext | None) -> str:
    """Why no connection could be had; pynetdicom does not keep the reason, so look once more."""
    try:
        with socket.create_connection((peer.host, peer.port), timeouts.connect_seconds) as connection:
            if secured is not None:
                return _insecure(connection, peer, secured)
    except ConnectionRefusedError:
        return "connection refused; check that it runs, and its port"
    except TimeoutError:
        return f"no answer to the connection within {timeouts.connect_seconds:g} s; check address and firewall"
    except OSError as error:
        return f"cannot be reached ({error.strerror or error}); check address and network"
    return "the connection was lost; the node tries again"

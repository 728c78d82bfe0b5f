"""What the services may know of the association on which a message arrived."""

from __future__ import annotations

from typing import Protocol

from node.receive.policy import Admission
from node.tls import PeerCertificate


class AssociationInfo(Protocol):
    """An established association, without its connection."""

    id: str
    calling_ae: str
    called_ae: str
    peer_address: str
    certificate: PeerCertificate | None
    """The certificate that the caller presented in the TLS handshake."""
    admission: Admission
    opened_at: float
    """Seconds since 1970 UTC."""

"""What the services may know of the association on which a message arrived."""

from __future__ import annotations

from typing import Protocol

from node.ledger.associations import OpenAssociation
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


def open_association(association: AssociationInfo, receiver: str) -> OpenAssociation:
    """Return an association as the ledger records it. ``receiver``: the id of this process."""
    return OpenAssociation(
        id=association.id,
        receiver=receiver,
        calling_ae=association.calling_ae,
        called_ae=association.called_ae,
        peer_address=association.peer_address,
        equipment=association.admission.equipment,
        opened_at=association.opened_at,
    )

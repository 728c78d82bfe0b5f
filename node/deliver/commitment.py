"""Storage Commitment Push Model as SCU (PS3.4 annex J): the request; ``ledger.delivery_proof`` takes the answer."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from pynetdicom.status import GENERAL_STATUS

from node.errors import DeliveryError
from node.ledger.pending_deliveries import PendingObject


def commitment_context() -> PresentationContext:
    """What an association needs for ``request_commitment``."""
    return build_context(StorageCommitmentPushModel)


def request_commitment(
    association: Association, peer: object, owed: Iterable[PendingObject], transaction_uid: str
) -> None:
    """Send the N-ACTION request (action type 1). Raises ``DeliveryError`` unless the peer takes it."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_reference(o) for o in owed]
    try:
        response, _ = association.send_n_action(
            information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except RuntimeError as error:
        raise DeliveryError(f"{peer}: closed the association before the Storage Commitment request") from error
    if "Status" not in response:
        raise DeliveryError(f"{peer}: no answer to the Storage Commitment request; the node asks again")
    if response.Status != 0x0000:
        _, words = GENERAL_STATUS.get(response.Status, ("", "status unknown to the standard"))
        raise DeliveryError(
            f"{peer}: Storage Commitment request refused with status 0x{response.Status:04X} ({words}); "
            "let its administrator allow this, or set commitment = false"
        )


def _reference(owed: PendingObject) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = owed.sop_class_uid
    item.ReferencedSOPInstanceUID = owed.sop_instance_uid
    return item

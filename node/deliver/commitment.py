"""Storage Commitment request as SCU (PS3.4 annex J).

``node.deliver.proof`` decides when to ask, and again; ``node.ledger.delivery_proof`` records the report.
"""

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
    """Build the presentation context for ``request_commitment``."""
    return build_context(StorageCommitmentPushModel)


def request_commitment(
    association: Association, peer: object, instances: Iterable[PendingObject], transaction_uid: str
) -> None:
    """Send the N-ACTION request (action type 1). Raises ``DeliveryError`` unless the peer accepts it."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_reference(o) for o in instances]
    try:
        response, _ = association.send_n_action(
            information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except RuntimeError as error:
        raise DeliveryError(f"{peer}: closed the association before the Storage Commitment request") from error
    if "Status" not in response:
        raise DeliveryError(f"{peer}: no response to the Storage Commitment request; the node tries again")
    if response.Status != 0x0000:
        _, words = GENERAL_STATUS.get(response.Status, ("", "status unknown to the standard"))
        raise DeliveryError(
            f"{peer}: Storage Commitment request refused with status 0x{response.Status:04X} ({words}); "
            "ask its administrator to allow it, or set commitment = false"
        )


def _reference(instance: PendingObject) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item

"""What the receiver asks the ledger to record: one received image and its association."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from node.ledger.associations import OpenAssociation
from node.ledger.instances import Receipt

SENDER = OpenAssociation(
    id="a1",
    receiver="host:1",
    calling_ae="CT1",
    called_ae="AINODE",
    peer_address="10.0.0.1",
    equipment="10.0.0.1",
    opened_at=1.0,
)


def receipt(sop: str, *, at: float = 10.0, **changes: Any) -> Receipt:
    made = Receipt(
        sop_instance_uid=sop,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid="1.1",
        series_instance_uid="1.1.1",
        modality="CT",
        path=f"incoming/1.1/1.1.1/{sop}.dcm",
        digest="0" * 64,
        size=100,
        conflict=False,
        association=SENDER,
        received_at=at,
    )
    return replace(made, **changes)

"""Storage Commitment Push Model as SCP (PS3.4 annex J): what this node holds of what a peer names.

An instance is committed when its row is there and its file has the size of the row; `ainode verify` reads the bytes.
The request, with the answer, is durable before the N-ACTION is answered. A peer that then stays on the association is
told there; one that left is told by ``node.deliver``.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import Engine

from node.ledger.commitments import Named, Recorded, end_transaction, record_transaction, recorded_instances, report
from node.ledger.engine import begin_immediate, now
from node.receive.normalized import NormalizedAnswer, NormalizedRequest, Notification
from node.receive.status import (
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_INSTANCE,
    SUCCESS,
)
from node.spool import Spool, is_uid

LOGGER = logging.getLogger(__name__)

SAME_ASSOCIATION_SECONDS = 5.0
"""After this time without its answer to a report on the association of its request, the peer gets one on a new one."""

_ROWS_FOLLOW_SECONDS = 2.0

_FAILURE_PROCESSING, _FAILURE_NO_INSTANCE, _FAILURE_CLASS = 0x0110, 0x0112, 0x0119
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


class CommitmentScp:
    """Answers N-ACTION requests of the Storage Commitment Push Model."""

    def __init__(self, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool

    def action(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Judge every instance that the request names, and keep the answer."""
        transaction_uid = str(request.dataset.get("TransactionUID") or "")
        wanted = _references(request.dataset)
        if request.sop_instance_uid != StorageCommitmentPushModelInstance:
            return NormalizedAnswer(status=NO_SUCH_INSTANCE, comment="not the well-known SOP Instance")
        if request.type_id != 1:
            return NormalizedAnswer(status=NO_SUCH_ACTION, comment=f"action type {request.type_id} is not known")
        if not is_uid(transaction_uid) or not wanted:
            return NormalizedAnswer(status=INVALID_ARGUMENT, comment="Transaction UID or referenced instances missing")
        known = self._known(list(wanted))
        named = [self._judge(uid, sop_class, known.get(uid)) for uid, sop_class in wanted.items()]
        with begin_immediate(self._engine) as connection:
            record_transaction(
                connection,
                calling_ae=request.calling_ae,
                transaction_uid=transaction_uid,
                association_id=request.association_id,
                equipment=request.equipment,
                named=named,
                next_at=now() + SAME_ASSOCIATION_SECONDS,
            )
            event_type, information = report(connection, request.calling_ae, transaction_uid)
        failed = sum(one.failure is not None for one in named)
        LOGGER.info("Storage Commitment for %s: %d instances, %d failed", request.calling_ae, len(named), failed)
        return NormalizedAnswer(
            status=SUCCESS,
            then=Notification(
                sop_class_uid=StorageCommitmentPushModel,
                sop_instance_uid=StorageCommitmentPushModelInstance,
                event_type=event_type,
                information=information,
                answered=partial(self._answered, request.calling_ae, transaction_uid),
            ),
        )

    def _known(self, wanted: list[str]) -> dict[str, Recorded]:
        """Rows follow their files a moment later: they are waited for."""
        deadline = time.monotonic() + _ROWS_FOLLOW_SECONDS
        while True:
            with self._engine.connect() as connection:
                known = recorded_instances(connection, wanted)
            if len(known) == len(wanted) or time.monotonic() > deadline:
                return known
            time.sleep(0.1)

    def _judge(self, uid: str, sop_class_uid: str, recorded: Recorded | None) -> Named:
        failure: int | None = None
        if recorded is None:
            failure = _FAILURE_NO_INSTANCE
        elif recorded.sop_class_uid != sop_class_uid:
            failure = _FAILURE_CLASS
        else:
            try:
                if self._spool.absolute(recorded.path).stat().st_size != recorded.size:
                    failure = _FAILURE_PROCESSING
            except OSError:
                failure = _FAILURE_PROCESSING
        return Named(sop_instance_uid=uid, sop_class_uid=sop_class_uid, failure=failure)

    def _answered(self, calling_ae: str, transaction_uid: str, status: int) -> None:
        if status != SUCCESS:
            LOGGER.warning("%s answered a Storage Commitment report with status 0x%04X", calling_ae, status)
            return
        with begin_immediate(self._engine) as connection:
            end_transaction(connection, calling_ae, transaction_uid)


def _references(information: Dataset) -> dict[str, str]:
    """SOP Instance UID -> SOP Class UID of what a request names."""
    items = information.get("ReferencedSOPSequence") or ()
    pairs = ((str(i.get("ReferencedSOPInstanceUID") or ""), str(i.get("ReferencedSOPClassUID") or "")) for i in items)
    return {uid: sop_class for uid, sop_class in pairs if uid}

"""Storage Commitment Push Model as SCP (PS3.4 annex J).

An instance is committed when it has a ledger row and its file has the recorded size; `ainode verify` reads the bytes.
The request and its result are durable before the N-ACTION is answered. A peer that keeps the association open gets
the report on it; ``node.deliver`` reports to a peer that released it.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import Engine

from node.errors import AbsentFileError
from node.ledger.clock import ledger_clock
from node.ledger.commitments import Named, Recorded, end_transaction, record_transaction, recorded_instances, report
from node.ledger.engine import begin_immediate
from node.receive.normalized import NormalizedAnswer, NormalizedRequest, Notification
from node.receive.status_codes import (
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_INSTANCE,
    RESOURCE_LIMITATION,
    SUCCESS,
)
from node.spool import Spool, is_uid

LOGGER = logging.getLogger(__name__)

SAME_ASSOCIATION_SECONDS = 5.0
"""Time for the peer to answer a report on the association of its request; then it is sent on a new one."""

_ROWS_FOLLOW_SECONDS = 2.0

_FAILURE_PROCESSING, _FAILURE_NO_INSTANCE, _FAILURE_CLASS = 0x0110, 0x0112, 0x0119
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


class CommitmentScp:
    """Answers N-ACTION requests of the Storage Commitment Push Model."""

    def __init__(self, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool

    def action(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Check every referenced instance and record the result."""
        transaction_uid = str(request.dataset.get("TransactionUID") or "")
        requested = _references(request.dataset)
        if request.sop_instance_uid != StorageCommitmentPushModelInstance:
            return NormalizedAnswer(status=NO_SUCH_INSTANCE, comment="SOP Instance UID is not the well-known instance")
        if request.type_id != 1:
            return NormalizedAnswer(status=NO_SUCH_ACTION, comment=f"unknown Action Type ID {request.type_id}")
        if not is_uid(transaction_uid) or not requested:
            return NormalizedAnswer(status=INVALID_ARGUMENT, comment="Transaction UID or referenced instances missing")
        recorded = self._recorded(list(requested))
        named = [self._judge(uid, sop_class, recorded.get(uid)) for uid, sop_class in requested.items()]
        with begin_immediate(self._engine) as connection:
            is_recorded = record_transaction(
                connection,
                calling_ae=request.calling_ae,
                transaction_uid=transaction_uid,
                association_id=request.association_id,
                equipment=request.equipment,
                named=named,
                next_at=ledger_clock(connection) + SAME_ASSOCIATION_SECONDS,
            )
            if not is_recorded:
                LOGGER.warning("%s at %s has too many requests; it is refused", request.calling_ae, request.address)
                return NormalizedAnswer(status=RESOURCE_LIMITATION, comment="too many requests of this device")
            event_type, information = report(connection, request.calling_ae, transaction_uid)
        failed = sum(instance.failure is not None for instance in named)
        LOGGER.info("Storage Commitment for %s: %d instances, %d failed", request.calling_ae, len(named), failed)
        return NormalizedAnswer(
            status=SUCCESS,
            notification=Notification(
                sop_class_uid=StorageCommitmentPushModel,
                sop_instance_uid=StorageCommitmentPushModelInstance,
                event_type=event_type,
                information=information,
                answered=partial(self._answered, request.calling_ae, transaction_uid),
            ),
        )

    def _recorded(self, requested: list[str]) -> dict[str, Recorded]:
        """Read the rows of the instances; wait briefly for rows that follow their files."""
        deadline = time.monotonic() + _ROWS_FOLLOW_SECONDS
        while True:
            with self._engine.connect() as connection:
                recorded = recorded_instances(connection, requested)
            if len(recorded) == len(requested) or time.monotonic() > deadline:
                return recorded
            time.sleep(0.1)

    def _judge(self, uid: str, sop_class_uid: str, recorded: Recorded | None) -> Named:
        failure: int | None = None
        if recorded is None:
            failure = _FAILURE_NO_INSTANCE
        elif recorded.sop_class_uid != sop_class_uid:
            failure = _FAILURE_CLASS
        else:
            try:
                if self._spool.stored_size(recorded.path) != recorded.size:
                    failure = _FAILURE_PROCESSING
            except (OSError, AbsentFileError):
                failure = _FAILURE_PROCESSING
        return Named(sop_instance_uid=uid, sop_class_uid=sop_class_uid, failure=failure)

    def _answered(self, calling_ae: str, transaction_uid: str, status: int) -> None:
        if status != SUCCESS:
            LOGGER.warning("%s answered a Storage Commitment report with status 0x%04X", calling_ae, status)
            return
        with begin_immediate(self._engine) as connection:
            end_transaction(connection, calling_ae, transaction_uid)


def _references(information: Dataset) -> dict[str, str]:
    """Return SOP Instance UID -> SOP Class UID of the referenced instances."""
    items = information.get("ReferencedSOPSequence") or ()
    pairs = ((str(i.get("ReferencedSOPInstanceUID") or ""), str(i.get("ReferencedSOPClassUID") or "")) for i in items)
    return {uid: sop_class for uid, sop_class in pairs if uid}

"""Modality Performed Procedure Step as SCP (PS3.4 annex F).

Records what completeness needs: study, modality, state and the acquired instances. The row is durable before the
N-CREATE or N-SET is answered.
"""

from __future__ import annotations

import logging

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import Engine

from node.ledger import ProcedureStepState
from node.ledger.engine import begin_immediate
from node.ledger.procedure_steps import NewStep, create_step, state_of_step, update_step
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.status_codes import (
    DUPLICATE_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    INVALID_INSTANCE,
    MISSING_ATTRIBUTE,
    NO_LONGER_UPDATED,
    NO_SUCH_INSTANCE,
    NOT_AUTHORIZED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
)
from node.spool import is_uid

LOGGER = logging.getLogger(__name__)

_STATES = (ProcedureStepState.IN_PROGRESS, ProcedureStepState.COMPLETED, ProcedureStepState.DISCONTINUED)


class ProcedureStepScp:
    """Answers N-CREATE and N-SET requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Record a step that begins (N-CREATE)."""
        uid = request.sop_instance_uid or str(generate_uid(prefix=None))
        scheduled = request.dataset.get("ScheduledStepAttributesSequence") or (Dataset(),)
        study = str(scheduled[0].get("StudyInstanceUID") or "")
        if not is_uid(uid):
            return NormalizedAnswer(status=INVALID_INSTANCE, comment="invalid SOP Instance UID")
        if not is_uid(study):
            comment = "ScheduledStepAttributesSequence needs a StudyInstanceUID"
            return NormalizedAnswer(status=MISSING_ATTRIBUTE, comment=comment)
        if request.dataset.get("PerformedProcedureStepStatus") != ProcedureStepState.IN_PROGRESS:
            comment = "PerformedProcedureStepStatus must be IN PROGRESS"
            return NormalizedAnswer(status=INVALID_ATTRIBUTE_VALUE, comment=comment)
        step = NewStep(
            sop_instance_uid=uid,
            study_instance_uid=study,
            modality=str(request.dataset.get("Modality") or ""),
            calling_ae=request.calling_ae,
            equipment=request.equipment,
            made=_performed(request.dataset),
        )
        with begin_immediate(self._engine) as connection:
            created = create_step(connection, step)
        if created == "exists":
            return NormalizedAnswer(status=DUPLICATE_INSTANCE, comment="procedure step already exists")
        if created == "too many":
            return too_many(request)
        return NormalizedAnswer(status=SUCCESS, sop_instance_uid=uid)

    def set(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Update a step (N-SET); COMPLETED and DISCONTINUED are final (PS3.4 F.7.2.2.2)."""
        state = str(request.dataset.get("PerformedProcedureStepStatus") or ProcedureStepState.IN_PROGRESS)
        if state not in _STATES:
            comment = "PerformedProcedureStepStatus is not a defined value"
            return NormalizedAnswer(status=INVALID_ATTRIBUTE_VALUE, comment=comment)
        with begin_immediate(self._engine) as connection:
            before = state_of_step(connection, request.sop_instance_uid)
            if before is None:
                return NormalizedAnswer(status=NO_SUCH_INSTANCE, comment="no such performed procedure step")
            if before[1] not in {"", request.equipment}:  # "": an older version did not keep it
                comment = "another device created this procedure step"
                refused = f"{comment} ({request.sop_instance_uid})"
                LOGGER.warning("N-SET from %s at %s: %s", request.calling_ae, request.address, refused)
                return NormalizedAnswer(status=NOT_AUTHORIZED, comment=comment, refused=refused)
            if before[0] != ProcedureStepState.IN_PROGRESS:
                comment = "Performed Procedure Step Object may no longer be updated"
                return NormalizedAnswer(status=PROCESSING_FAILURE, comment=comment, error_id=NO_LONGER_UPDATED)
            updated = update_step(connection, request.sop_instance_uid, state, _performed(request.dataset))
        return NormalizedAnswer(status=SUCCESS) if updated else too_many(request)


def too_many(request: NormalizedRequest) -> NormalizedAnswer:
    """Refuse a step or a notification of a device that has too many (``node.ledger.peer_bounds``)."""
    LOGGER.warning(
        "%s at %s has too many procedure steps, or images in them; it is refused", request.calling_ae, request.address
    )
    return NormalizedAnswer(
        status=RESOURCE_LIMITATION, comment="too many procedure steps of this device, or images in them"
    )


def _performed(attributes: Dataset) -> frozenset[tuple[str, str]]:
    """Return ``(SeriesInstanceUID, SOPInstanceUID)`` of all items in Performed Series Sequence (0040,0340)."""
    performed = set()
    for series in attributes.get("PerformedSeriesSequence") or ():
        series_uid = str(series.get("SeriesInstanceUID") or "")
        if not is_uid(series_uid):
            continue
        performed.add((series_uid, ""))
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            items = series.get(keyword) or ()
            uids = (str(item.get("ReferencedSOPInstanceUID") or "") for item in items)
            performed |= {(series_uid, uid) for uid in uids if is_uid(uid)}
    return frozenset(performed)

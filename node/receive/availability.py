"""Instance Availability Notification as SCP (PS3.4 annex R; IHE RAD-49): an archive names what it holds of a study.

Completeness takes the list like that of a procedure step. It is durable before the N-CREATE is answered.
"""

from __future__ import annotations

from pydicom.uid import generate_uid
from sqlalchemy import Engine

from node.ledger import ProcedureStepState
from node.ledger.engine import begin_immediate
from node.ledger.procedure_steps import NewStep, create_step
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.procedure_step import too_many
from node.receive.referenced_instances import referenced_instances
from node.receive.status_codes import DUPLICATE_INSTANCE, INVALID_INSTANCE, MISSING_ATTRIBUTE, SUCCESS
from node.spool import is_uid

_UNAVAILABLE = "UNAVAILABLE"
"""Instance Availability (0008,0056) of an instance that the archive cannot give."""


def notify_availability(engine: Engine, request: NormalizedRequest) -> NormalizedAnswer:
    """Record a notification (N-CREATE)."""
    uid = request.sop_instance_uid or str(generate_uid(prefix=None))
    study = str(request.dataset.get("StudyInstanceUID") or "")
    if not is_uid(uid):
        return NormalizedAnswer(status=INVALID_INSTANCE, comment="invalid SOP Instance UID")
    named = referenced_instances(request.dataset, ["ReferencedSOPSequence"], but=_UNAVAILABLE)
    if not is_uid(study) or not named:
        comment = "StudyInstanceUID or available instances in ReferencedSeriesSequence missing"
        return NormalizedAnswer(status=MISSING_ATTRIBUTE, comment=comment)
    notification = NewStep(
        sop_instance_uid=uid,
        study_instance_uid=study,
        modality="",
        calling_ae=request.calling_ae,
        equipment=request.equipment,
        made=named,
    )
    with begin_immediate(engine) as connection:
        created = create_step(connection, notification, ProcedureStepState.AVAILABLE)
    if created == "exists":
        return NormalizedAnswer(status=DUPLICATE_INSTANCE, comment="notification already exists")
    return too_many(request) if created == "too many" else NormalizedAnswer(status=SUCCESS, sop_instance_uid=uid)

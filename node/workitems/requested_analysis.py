"""What every service does with a request for an analysis: it looks at the images, and keeps it before it answers."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine

from node.errors import InputError
from node.ledger import NoticeKind
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.held_objects import HeldObject
from node.ledger.workitem_progress import image_of_patient
from node.ledger.workitems import NewWorkitem, add_workitem
from node.workitems.job_uid import JobUids
from node.workitems.request import AnalysisRequest
from node.workitems.requested_series import requested_series


def check_request(
    engine: Engine, wanted: AnalysisRequest, pipeline: str, patient_of: Callable[[HeldObject], str]
) -> None:
    """Raise ``NodeError`` when the images are not here, cannot be analysed, or are of another patient.

    ``patient_of`` returns the Patient ID of an image.
    """
    with engine.connect() as connection:
        series = requested_series(connection, wanted.study_instance_uid, wanted.series_instance_uid, pipeline)
        uid = wanted.series_instance_uid if series is None else series.series_instance_uid
        image = image_of_patient(connection, wanted.study_instance_uid, uid)
    if not wanted.patient_id or image is None:
        return
    patient = patient_of(image)
    if patient and patient != wanted.patient_id:
        raise InputError("Patient ID is not that of the images")


def keep_request(engine: Engine, uids: JobUids, new: NewWorkitem, pipeline: str, *, who: str, address: str) -> str:
    """Keep a request and the notice for the audit trail; return what it says, empty when the UID is taken."""
    detail = f"requested {pipeline} of study {new.study_instance_uid} as workitem {new.uid}"
    is_of_job = bool(uids.job_id(new.uid))
    with begin_immediate(engine) as connection:
        if is_of_job or not add_workitem(connection, new, pipeline):
            return ""
        add_notice(connection, NoticeKind.ACT, who=who, address=address, detail=detail)
    return detail

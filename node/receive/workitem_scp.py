"""Unified Procedure Step as SCP (PS3.4 CC): requests for analyses over DIMSE, and what others ask of workitems.

The SOP Class of a request is UPS Push, whatever its presentation context is (PS3.4 CC.3.1). A request is durable before
N-CREATE is answered; the router makes its job, and cancels what is asked to be canceled.
"""

from __future__ import annotations

import logging

from pydicom.dataset import Dataset
from pynetdicom.sop_class import UnifiedProcedureStepPull
from sqlalchemy import Engine

from node.config import Config
from node.confined import Bounds, shared_process
from node.errors import NodeError
from node.ledger import NoticeKind
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.held_objects import HeldObject
from node.ledger.workitem_progress import (
    WorkitemProgress,
    input_images,
    outputs_of,
    started_at,
)
from node.ledger.workitem_subscriptions import ask_subscribers_to_cancel
from node.ledger.workitems import ask_for_cancellation
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.status_codes import (
    ALREADY_CANCELED,
    ALREADY_COMPLETED,
    DUPLICATE_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    INVALID_INSTANCE,
    NO_SUCH_ACTION,
    NO_SUCH_WORKITEM,
    NOT_CANCELED,
    SUCCESS,
)
from node.receive.workitem_performing import refused_change, refused_update
from node.receive.workitem_subscription import SUBSCRIBE, SUSPEND, UNSUBSCRIBE, WorkitemSubscription
from node.spool import Spool, is_uid
from node.studies.patient_id import patient_id_of
from node.workitems.attributes import WorkitemDetails, attributes_of
from node.workitems.job_uid import JobUids
from node.workitems.known_workitem import known_workitem, workitem_key
from node.workitems.request import analysis_request, is_well_known
from node.workitems.requested_analysis import check_request, keep_request
from node.workitems.state import StepState, progress_of
from node.workitems.subscribers import wants

LOGGER = logging.getLogger(__name__)

_BOUNDS = Bounds(memory_mib=1024, cpu_seconds=15, wall_seconds=30.0)
"""Of the reading of one header."""
_CHANGE_STATE, _REQUEST_CANCEL = 1, 2
"""Action Type IDs (PS3.4 table CC.2-1); the others are about subscriptions."""
_ABSENT = NormalizedAnswer(status=NO_SUCH_WORKITEM, comment="no such workitem")
_OF_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")


class WorkitemScp:
    """Answers N-CREATE, N-GET, N-SET and N-ACTION requests."""

    def __init__(self, config: Config, engine: Engine, spool: Spool, uids: JobUids) -> None:
        self._config = config
        self._spool = spool
        self._engine = engine
        self._uids = uids
        self._subscription = WorkitemSubscription(config, engine, uids)

    def create(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Take a request for an analysis (N-CREATE, PS3.4 CC.2.5)."""
        uid = request.sop_instance_uid or JobUids.new()
        if not is_uid(uid) or is_well_known(uid):
            return NormalizedAnswer(status=INVALID_INSTANCE, comment="invalid SOP Instance UID")
        try:
            wanted = analysis_request(_values(request.dataset), self._config.procedures)
            pipeline = self._config.procedures[wanted.procedure].pipeline
            check_request(self._engine, wanted, pipeline, self._patient_of)
        except NodeError as error:
            LOGGER.warning("workitem of %s refused: %s", request.calling_ae, error)
            return NormalizedAnswer(status=INVALID_ATTRIBUTE_VALUE, comment=_comment(error))
        new = wanted.workitem(uid, _requester(request))
        who = {"who": request.calling_ae, "address": request.address}
        detail = keep_request(self._engine, self._uids, new, pipeline, **who)
        if not detail:
            return NormalizedAnswer(status=DUPLICATE_INSTANCE, comment="workitem already exists")
        LOGGER.info("%s %s", request.calling_ae, detail)
        return NormalizedAnswer(status=SUCCESS, sop_instance_uid=uid)

    def get(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Return a workitem (N-GET, PS3.4 CC.2.7); attributes of the patient are empty."""
        of = self._progress(request.sop_instance_uid)
        if of is None:
            return _ABSENT
        with self._engine.connect() as connection:
            details = WorkitemDetails(
                images=input_images(connection, of.study_instance_uid, of.series_instance_uid),
                outputs=[] if of.job is None else outputs_of(connection, of.job),
                started_at=None if of.job is None else started_at(connection, of.job),
            )
        step = attributes_of(request.sop_instance_uid, of, self._config, details)
        for keyword in _OF_PATIENT:
            setattr(step, keyword, None)
        return NormalizedAnswer(status=SUCCESS, dataset=_only(step, request.attributes))

    def set(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Refuse to change a workitem (N-SET, PS3.4 CC.2.6)."""
        of = self._progress(request.sop_instance_uid)
        return _ABSENT if of is None else refused_update(progress_of(of).state)

    def action(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Take what the Action Type ID says, of those that the SOP Class of the presentation context has."""
        is_pull = request.context_class_uid == UnifiedProcedureStepPull
        match request.type_id:
            case type_id if type_id == _CHANGE_STATE and is_pull:
                of = self._progress(request.sop_instance_uid)
                return _ABSENT if of is None else refused_change(progress_of(of).state, request)
            case type_id if type_id == _REQUEST_CANCEL and not is_pull:
                return self._cancel(request)
            case type_id if type_id in (SUBSCRIBE, UNSUBSCRIBE, SUSPEND) and not is_pull:
                return self._subscription.action(request)
        return NormalizedAnswer(status=NO_SUCH_ACTION, comment="no action of this SOP Class")

    def _cancel(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Take a request for cancellation of a workitem that the same device has created (PS3.4 CC.2.2)."""
        of = self._progress(request.sop_instance_uid)
        if of is None:
            return _ABSENT
        state = progress_of(of).state
        if state == StepState.CANCELED:
            return NormalizedAnswer(status=ALREADY_CANCELED, comment="workitem is CANCELED already")
        if state == StepState.COMPLETED:
            return NormalizedAnswer(status=ALREADY_COMPLETED, comment="workitem is COMPLETED")
        if of.requested is None or of.requested.requester != _requester(request):
            comment = "another system has requested it"
            refused = f"cancellation of workitem {request.sop_instance_uid}: {comment}"
            return NormalizedAnswer(status=NOT_CANCELED, comment=comment, refused=refused)
        detail = f"asked to cancel workitem {request.sop_instance_uid} of study {of.study_instance_uid}"
        with begin_immediate(self._engine) as connection:
            ask_for_cancellation(connection, request.sop_instance_uid, request.calling_ae)
            why = str(request.dataset.get("ReasonForCancellation") or "")
            key = workitem_key(request.sop_instance_uid, of)
            ask_subscribers_to_cancel(connection, key, request.calling_ae, why, wants(key.uid, of, self._config))
            who = {"who": request.calling_ae, "address": request.address}
            add_notice(connection, NoticeKind.ACT, **who, detail=detail)
        return NormalizedAnswer(status=SUCCESS)

    def _patient_of(self, image: HeldObject) -> str:
        process = shared_process("workitem reader", self._spool.data_folders, _BOUNDS, decodes=False)
        return process.call(f"instance {image.sop_instance_uid}", patient_id_of, self._spool.readable(image.path))

    def _progress(self, uid: str) -> WorkitemProgress | None:
        return known_workitem(self._engine, self._uids, uid)


def _requester(request: NormalizedRequest) -> str:
    return f"{request.calling_ae} at {request.equipment}"


def _values(dataset: Dataset) -> dict[str, object]:
    return dict(dataset.to_json_dict(suppress_invalid_tags=True))


def _only(step: Dataset, attributes: tuple[int, ...]) -> Dataset:
    """These attributes of a workitem; none: all."""
    if not attributes:
        return step
    chosen = Dataset()
    for tag in attributes:
        if tag in step:
            chosen[tag] = step[tag]
    return chosen


def _comment(error: NodeError) -> str:
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in str(error))[:64]

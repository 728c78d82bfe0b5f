"""What a subscriber is told of a workitem: UPS Event reports (PS3.4 CC.2.4). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pynetdicom.sop_class import UnifiedProcedureStepPush

from node.config import Config
from node.ledger.workitem_progress import WorkitemProgress
from node.workitems.attributes import attributes_of
from node.workitems.character_set import declare_character_set
from node.workitems.state import FINAL, StepState, progress_of

STATE, CANCEL_REQUESTED, PROGRESS, ASSIGNED = 1, 2, 3, 5
"""Event Type IDs (PS3.4 table CC.2.4-1)."""
_LONGEST_TITLE = 16
_LONGEST_REASON = 10240
"""Characters of an LT (PS3.5 6.2)."""
_OF_STATE = ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence")
_OF_PROGRESS = ("ProcedureStepProgress", "ProcedureStepProgressDescription")


@dataclass(frozen=True, kw_only=True)
class EventReport:
    """An N-EVENT-REPORT on a workitem."""

    event_type: int
    information: Dataset


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a subscriber knows of a workitem."""

    state: str
    """Procedure Step State; empty: nothing."""
    progress: str


def known_after(of: WorkitemProgress) -> Known:
    """Return what a subscriber knows that has all reports on a workitem."""
    progress = progress_of(of)
    return Known(state=progress.state, progress=f"{progress.percent} {progress.description}")


def event_reports(
    of: WorkitemProgress, known: Known, config: Config, uid: str, cancel: Sequence[Mapping[str, Any]] = ()
) -> list[EventReport]:
    """Return what has to be sent, in order; nothing when the subscriber knows it all.

    A workitem that has ended was in progress before, also when the subscriber was away meanwhile or the step was
    canceled before it began (PS3.4 CC.2.2.3). ``cancel``: requests for cancellation that the subscriber does not
    know. No report names a patient.
    """
    now = known_after(of)
    step = attributes_of(uid, of, config)
    reports = []
    if not known.state:
        reports.append(EventReport(event_type=ASSIGNED, information=_only(step, "ScheduledStationNameCodeSequence")))
    reports += [EventReport(event_type=CANCEL_REQUESTED, information=_cancel_request(request)) for request in cancel]
    if known.state != now.state:
        if known.state == StepState.SCHEDULED and now.state in FINAL:
            reports.append(_state_report(step, StepState.IN_PROGRESS))
        reports.append(_state_report(step, now.state))
    if now.state == StepState.IN_PROGRESS and known.progress != now.progress:
        information, item = Dataset(), step.ProcedureStepProgressInformationSequence[0]
        information.ProcedureStepProgressInformationSequence = [_only(item, *_OF_PROGRESS)]
        reports.append(EventReport(event_type=PROGRESS, information=information))
    for report in reports:
        declare_character_set(report.information)
    return reports


def event_report_json(uid: str, report: EventReport, message_id: int) -> str:
    """Return a report as DICOM JSON (PS3.18 11.13).

    Its SOP Class is that of every workitem (PS3.4 CC.3.1); the example in PS3.18 has that of UPS Event.
    """
    command = Dataset()
    command.AffectedSOPClassUID = UnifiedProcedureStepPush
    command.MessageID = message_id
    command.AffectedSOPInstanceUID = uid
    command.EventTypeID = report.event_type
    return json.dumps(command.to_json_dict() | report.information.to_json_dict())


def _state_report(step: Dataset, state: str) -> EventReport:
    information = _only(step, "InputReadinessState")
    information.ProcedureStepState = state
    if state == StepState.CANCELED:
        information.update(_only(step.ProcedureStepProgressInformationSequence[0], *_OF_STATE))
    return EventReport(event_type=STATE, information=information)


def _cancel_request(cancel: Mapping[str, Any]) -> Dataset:
    information = Dataset()
    information.RequestingAE = str(cancel["who"])[:_LONGEST_TITLE]
    if cancel["reason"]:
        information.ReasonForCancellation = str(cancel["reason"])[:_LONGEST_REASON]
    return information


def _only(step: Dataset, *keywords: str) -> Dataset:
    chosen = Dataset()
    for keyword in keywords:
        if keyword in step:
            chosen[keyword] = step[keyword]
    return chosen

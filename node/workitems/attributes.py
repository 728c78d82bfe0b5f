"""The attributes of a workitem (PS3.4 table CC.2.5-3) but those of the patient, which are in its images only. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from pydicom import Dataset
from pydicom.uid import UID

from node.config import Config
from node.ledger.held_objects import HeldObject
from node.ledger.workitem_progress import OutputObject, WorkitemProgress
from node.reasons import reason_text
from node.workitems.state import StepProgress, StepState, progress_of

UPS_PUSH = UID("1.2.840.10008.5.1.4.34.6.1")
"""SOP Class UID of every workitem (PS3.4 CC.3.1)."""
_SCHEME = "99AINODE"
"""Of what has no other code here. ``node.pipeline`` has it too, together with libraries that this must not load."""
_PRIORITIES = {1: "HIGH", 2: "MEDIUM", 3: "LOW"}
_UNSPECIFIED = ("110513", "DCM", "Discontinued for unspecified reason")
"""CID 9300 Procedure Discontinuation Reasons."""
_EMPTY = (
    "ScheduledProcessingParametersSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledHumanPerformersSequence",
    "ReferencedRequestSequence",
    "ReplacedProcedureStepSequence",
)
Code = tuple[str, str, str]
"""Value, scheme and meaning."""


@dataclass(frozen=True, kw_only=True)
class WorkitemDetails:
    """What only a whole workitem shows."""

    images: Sequence[HeldObject] = ()
    outputs: Sequence[OutputObject] = ()
    started_at: float | None = None
    retrieve_url: Callable[[str, str], str] = field(default=lambda _study, _series: "")
    """Address of a series at this node's WADO-RS, by study and series; empty: there is none."""


def attributes_of(uid: str, of: WorkitemProgress, config: Config, details: WorkitemDetails | None = None) -> Dataset:
    """Return the attributes of a workitem. Without ``details`` it names no single image, and nothing of what was done.

    ``uid``: its SOP Instance UID.
    """
    progress = progress_of(of)
    code, label = code_of(of, config), "" if of.requested is None else of.requested.requested.label
    created = max(at for at in (of.requested and of.requested.requested_at, of.job and of.job.created_at) if at)
    changed = max(at for at in (of.requested and of.requested.updated_at, of.job and of.job.updated_at) if at)
    step = Dataset()
    step.SOPClassUID, step.SOPInstanceUID = UPS_PUSH, uid
    step.ScheduledProcedureStepPriority = _priority(of)
    step.ScheduledProcedureStepModificationDateTime = date_time(changed)
    step.ProcedureStepLabel = (label or code[2])[:64]
    step.WorklistLabel = ("" if of.requested is None else of.requested.requested.worklist) or config.ae.title
    for keyword in _EMPTY:
        setattr(step, keyword, [])
    step.ScheduledStationNameCodeSequence = [item_of(station(config))]
    step.ScheduledProcedureStepStartDateTime = date_time(created)
    step.ScheduledWorkitemCodeSequence = [item_of(code)]
    step.CommentsOnTheScheduledProcedureStep = None
    is_ready = of.job is not None or progress.state != StepState.SCHEDULED
    step.InputReadinessState = "READY" if is_ready else "UNAVAILABLE"
    step.StudyInstanceUID = of.study_instance_uid
    step.AdmissionID = None
    step.ProcedureStepState = progress.state
    step.ProcedureStepProgressInformationSequence = [_progress_item(progress)]
    step.InputInformationSequence = _inputs(of, config, details)
    if details is not None:
        is_begun = progress.state != StepState.SCHEDULED and of.job is not None
        step.UnifiedProcedureStepPerformedProcedureSequence = (
            [performed(of.study_instance_uid, code, progress, config, details)] if is_begun else []
        )
    return step


def progress_report(
    study: str, code: Code, progress: StepProgress, config: Config, details: WorkitemDetails | None = None
) -> Dataset:
    """Return what a performer tells of a workitem that is another system's; with ``details`` also what was done."""
    step = Dataset()
    step.ProcedureStepProgressInformationSequence = [_progress_item(progress)]
    if details is not None:
        step.UnifiedProcedureStepPerformedProcedureSequence = [performed(study, code, progress, config, details)]
    return step


def code_of(of: WorkitemProgress, config: Config) -> Code:
    """Return the code of what is performed: as requested, as configured, or the name of the pipeline."""
    if of.requested is not None:
        return of.requested.requested.code
    pipeline = "" if of.job is None else of.job.pipeline
    for procedure in config.procedures.values():
        if procedure.pipeline == pipeline:
            return procedure.code, procedure.scheme, procedure.meaning or config.title(pipeline)
    return pipeline[:16], _SCHEME, config.title(pipeline)


def station(config: Config) -> Code:
    """Return the code of this node as a station."""
    return config.ae.title, _SCHEME, config.ae.title


def performed(study: str, code: Code, progress: StepProgress, config: Config, details: WorkitemDetails) -> Dataset:
    """Return an item of Unified Procedure Step Performed Procedure Sequence (0074,1216): by whom, when, what came."""
    item = Dataset()
    item.ActualHumanPerformersSequence = []
    item.PerformedStationNameCodeSequence = [item_of(station(config))]
    item.PerformedStationClassCodeSequence = []
    item.PerformedStationGeographicLocationCodeSequence = []
    item.PerformedProcessingParametersSequence = []
    item.PerformedProcedureStepDescription = code[2]
    item.PerformedProcedureStepStartDateTime = date_time(details.started_at)
    item.PerformedProcedureStepEndDateTime = date_time(progress.ended_at)
    item.PerformedWorkitemCodeSequence = [item_of(code)]
    item.OutputInformationSequence = [
        _output(study, series, list(objects), config, details)
        for series, objects in groupby(details.outputs, key=lambda output: output.series_instance_uid)
    ]
    return item


def item_of(code: Code) -> Dataset:
    """Return an item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def date_time(at: float | None) -> str | None:
    """Return a time as DT, in UTC."""
    return None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y%m%d%H%M%S.%f}+0000"


def _priority(of: WorkitemProgress) -> str:
    if of.job is not None and of.job.shadow is None:
        return _PRIORITIES.get(of.job.priority, "LOW")
    return "LOW" if of.requested is None else of.requested.requested.priority


def _progress_item(progress: StepProgress) -> Dataset:
    item = Dataset()
    item.ProcedureStepProgress = progress.percent
    item.ProcedureStepProgressDescription = progress.description[:1024]
    if progress.state == StepState.CANCELED:
        item.ProcedureStepCancellationDateTime = date_time(progress.ended_at)
        item.ReasonForCancellation = reason_text(progress.reason)[:10240]
        item.ProcedureStepDiscontinuationReasonCodeSequence = [item_of(_UNSPECIFIED)]
    return item


def _inputs(of: WorkitemProgress, config: Config, details: WorkitemDetails | None) -> list[Dataset]:
    study, series = of.study_instance_uid, of.series_instance_uid
    if details is None:
        return [_series_item(study, series)]
    item = _series_item(study, series, _access_of(study, series, config, details))
    item.ReferencedSOPSequence = [_reference(image.sop_class_uid, image.sop_instance_uid) for image in details.images]
    return [item]


def _output(
    study: str, series: str, objects: Sequence[OutputObject], config: Config, details: WorkitemDetails
) -> Dataset:
    destinations = sorted({name for output in objects for name in output.destinations})
    item = _series_item(study, series, _access_of(study, series, config, details, destinations))
    item.ReferencedSOPSequence = [_reference(output.sop_class_uid, output.sop_instance_uid) for output in objects]
    return item


@dataclass(frozen=True, kw_only=True)
class _Access:
    """Where the instances of a series can be retrieved."""

    titles: Sequence[str] = ()
    urls: Sequence[str] = ()


def _access_of(
    study: str, series: str, config: Config, details: WorkitemDetails, destinations: Sequence[str] = ()
) -> _Access:
    known = [config.destinations[name] for name in destinations if name in config.destinations]
    named = [to for to in known if not to.deidentify]  # under other UIDs they are other instances
    ours = details.retrieve_url(study, series) if series else ""
    return _Access(
        titles=list(dict.fromkeys(to.title for to in named if to.host)),
        urls=[
            *filter(None, [ours]),
            *(f"{to.url.rstrip('/')}/studies/{study}/series/{series}" for to in named if to.url),
        ],
    )


def _series_item(study: str, series: str, access: _Access = _Access()) -> Dataset:
    item = Dataset()
    item.TypeOfInstances = "DICOM"
    item.StudyInstanceUID = study
    if series:
        item.SeriesInstanceUID = series
    for keyword, attribute, values in (
        ("DICOMRetrievalSequence", "RetrieveAETitle", access.titles),
        ("WADORSRetrievalSequence", "RetrieveURL", access.urls),
    ):
        if values:
            setattr(item, keyword, [_item_with(attribute, value) for value in values])
    return item


def _item_with(keyword: str, value: str) -> Dataset:
    item = Dataset()
    setattr(item, keyword, value)
    return item


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    return item

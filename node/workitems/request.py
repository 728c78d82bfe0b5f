"""What a workitem that another system has created asks of this node. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from node.config import Procedure
from node.errors import InputError
from node.ledger.workitems import NewWorkitem, Requested
from node.workitems.step_json import Values, codes_of, only_items_of, sole_text_of, text_of

_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_LONGEST_UID = 64
_OF_DICOM = "1.2.840.10008."
"""Root of the UIDs that the standard defines (PS3.6 A), those of global subscriptions (PS3.4 CC.2.3) among them."""
_PRIORITIES = ("HIGH", "MEDIUM", "LOW")
_CODES = ("ScheduledWorkitemCodeSequence", "ScheduledStationNameCodeSequence")


@dataclass(frozen=True, kw_only=True)
class AnalysisRequest:
    """A request for one analysis."""

    procedure: str
    """Name of ``[procedures.NAME]``."""
    study_instance_uid: str
    series_instance_uid: str
    """Empty: it names none."""
    patient_id: str
    """Empty: it names none. Kept nowhere."""
    requested: Requested

    def workitem(self, uid: str, requester: str) -> NewWorkitem:
        """Return what is kept of it."""
        return NewWorkitem(
            uid=uid,
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
            procedure=self.procedure,
            requester=requester,
            requested=self.requested,
        )


def is_uid(text: str) -> bool:
    """Return whether a text is a UID (PS3.5 9.1)."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def is_well_known(uid: str) -> bool:
    """Return whether the standard defines a UID, which no workitem can have then."""
    return uid.startswith(_OF_DICOM)


def analysis_request(values: Values, procedures: Mapping[str, Procedure]) -> AnalysisRequest:
    """Read a workitem as it is created (PS3.4 table CC.2.5-3). Raises ``InputError`` when this node cannot do it."""
    state = sole_text_of(values, "ProcedureStepState")
    if state not in ("", "SCHEDULED"):
        raise InputError(f"Procedure Step State is {state!a}; a workitem is created as SCHEDULED")
    if sole_text_of(values, "TransactionUID"):
        raise InputError("Transaction UID has a value; a workitem is created without one")
    name, code = _procedure(values, procedures)
    study, series = _input(values)
    priority = sole_text_of(values, "ScheduledProcedureStepPriority").upper() or "MEDIUM"
    if priority not in _PRIORITIES:
        raise InputError(f"Scheduled Procedure Step Priority is {priority!a}; it can be {', '.join(_PRIORITIES)}")
    requested = Requested(
        code=code,
        priority=priority,
        label=text_of(values, "ProcedureStepLabel")[:64],
        worklist=text_of(values, "WorklistLabel")[:64],
    )
    return AnalysisRequest(
        procedure=name,
        study_instance_uid=study,
        series_instance_uid=series,
        patient_id=sole_text_of(values, "PatientID"),
        requested=requested,
    )


def has_codes(values: Values) -> bool:
    """Return whether a workitem says what is to be done; some services leave that out of lists."""
    return any(codes_of(values, keyword) for keyword in _CODES)


def offered(values: Values, procedures: Mapping[str, Procedure]) -> tuple[str, tuple[str, str, str]] | None:
    """Return the procedure that a workitem asks for, with its code; ``None``: this node does not offer it."""
    known = {(procedure.code, procedure.scheme): name for name, procedure in procedures.items()}
    for keyword in _CODES:
        for value, scheme, meaning in codes_of(values, keyword):
            if name := known.get((value, scheme)):
                return name, (value, scheme, meaning or procedures[name].meaning)
    return None


def _procedure(values: Values, procedures: Mapping[str, Procedure]) -> tuple[str, tuple[str, str, str]]:
    if offer := offered(values, procedures):
        return offer
    stated = [f"({value!a}, {scheme!a})" for keyword in _CODES for value, scheme, _ in codes_of(values, keyword)]
    possible = (
        ", ".join(f"({procedure.code}, {procedure.scheme})" for procedure in procedures.values())
        or "none is configured"
    )
    raise InputError(
        f"Scheduled Workitem Code Sequence has {', '.join(stated[:3]) or 'no code'}; this node performs: {possible}"
    )


def _input(values: Values) -> tuple[str, str]:
    items = only_items_of(values, "InputInformationSequence")
    series = sorted({uid for item in items if (uid := sole_text_of(item, "SeriesInstanceUID"))})
    studies = sorted({uid for item in items if (uid := sole_text_of(item, "StudyInstanceUID"))})
    studies = studies or [uid for uid in [sole_text_of(values, "StudyInstanceUID")] if uid]
    if len(studies) != 1 or len(series) > 1:
        raise InputError(
            f"Input Information Sequence names {len(studies)} studies and {len(series)} series; "
            "a workitem is about one study, and one series of it or none"
        )
    for uid in (*studies, *series):
        if not is_uid(uid):
            raise InputError(f"{uid[:80]!a} is not a UID")
    return studies[0], series[0] if series else ""

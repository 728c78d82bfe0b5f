"""How reasons read that are about the end of a job: its outcome, its cancellation, what was not sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.errors import NodeError, error_code, not_analysed
from node.reasons.codes import Reason, ReasonCode, Text, reason
from node.translation import current_language, gettext, marked
from node.wording import together


def failed(error: BaseException | None, job_id: str) -> Reason:
    """Why a job has no result: the class of ``error``; ``None``: the error is not known."""
    code = NodeError.code if error is None else error_code(error)
    return reason(ReasonCode.NOT_ANALYSED, error_code=code, job=job_id)


def _not_analysed(values: Mapping[str, Any]) -> str:
    return not_analysed(values["error_code"], values["job"])


def _stated(values: Mapping[str, Any]) -> str:
    """What a pipeline stated, in its own translation where it has one."""
    return str(values.get("translations", {}).get(current_language()) or values["text"])


def _cancelled(values: Mapping[str, Any]) -> str:
    return gettext("cancelled by {who}", who=values["operator"] or gettext("the operator"))


def _deliveries(values: Mapping[str, Any]) -> str:
    return "; ".join(
        gettext("delivery to {name}: {error}", name=name, error=error) for name, error in values["deliveries"].items()
    )


def _prerequisite(values: Mapping[str, Any]) -> str:
    return gettext(
        "it needs the result of {pipeline}, whose outcome is {outcome}: {why}",
        pipeline=values["pipeline"],
        outcome=gettext(values["outcome"]),
        why=values["why"],
    )


def _urgent(values: Mapping[str, Any]) -> str:
    name = str(values["measurement"])
    measured = {"measurement": gettext(name), "value": values["value"], "unit": values["unit"]}
    if not values["finding"]:
        return gettext("{measurement} {value} {unit} (limit {limit})", limit=values["limit"], **measured)
    return gettext(
        "{measurement} of {finding} {value} {unit} (limit {limit})",
        finding=values["finding"],
        limit=values["limit"],
        **measured,
    )


TEXTS: Mapping[ReasonCode, Text] = {
    ReasonCode.URGENT: _urgent,
    ReasonCode.NOT_ANALYSED: _not_analysed,
    ReasonCode.NO_STATEMENT: marked(
        "NOT ANALYSED: the analysis ended without a result and does not say what it looked for."
    ),
    ReasonCode.NO_REPORT: marked("No report could be made. {why}"),
    ReasonCode.STATED: _stated,
    ReasonCode.TOGETHER: lambda values: together(*values["parts"]),
    ReasonCode.SUPERSEDED: marked("superseded by generation {generation} of its series"),
    ReasonCode.CANCELLED: _cancelled,
    ReasonCode.RECEIVED_AGAIN: marked(
        "its images were received again with different {keywords}; when all of them have, the new identity counts"
    ),
    ReasonCode.ERROR: marked("{explanation}"),
    ReasonCode.DELIVERIES_REFUSED: _deliveries,
    ReasonCode.QUALITY_STOPPED: marked("the stop rule of pipeline {pipeline} has tripped: {why}"),
    ReasonCode.PREREQUISITE_ENDED: _prerequisite,
    ReasonCode.PREREQUISITE_ABSENT: marked(
        "it needs the result of {pipeline}, which was cancelled, retracted or deleted (job {job})"
    ),
    ReasonCode.NOTES_REFUSED: marked("it does not accept rejection notes ({explanation})"),
}

"""Files of the results that a pipeline needs, or why it cannot run without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from node.inference.task import ResultFiles
from node.ledger import JobStage
from node.ledger.prerequisite_results import PrerequisiteResult
from node.outcome import ANALYSED, Outcome
from node.reasons import Reason, ReasonCode, reason, reason_text


def without_result(pipeline: str, outcome: str, why: Reason | str | None) -> tuple[Outcome, Reason] | None:
    """Outcome and reason of an analysis that needs the result of another one; ``None``: it has one.

    ``pipeline``: what reports call it. An analysis that is not applicable makes those that need it not applicable.
    """
    if outcome in ANALYSED:
        return None
    ended = reason(ReasonCode.PREREQUISITE_ENDED, pipeline=pipeline, outcome=outcome, why=why or "")
    return Outcome.NOT_APPLICABLE if outcome == Outcome.NOT_APPLICABLE else Outcome.FAILED, ended


def prerequisite_fault(
    needed: Iterable[PrerequisiteResult], title: Callable[[str], str]
) -> tuple[Outcome, Reason] | None:
    """Return outcome and reason of a job that cannot run because a result is missing; ``None``: it can.

    ``title``: what reports call a pipeline.
    """
    for one in needed:
        name = title(one.pipeline)
        has_ended = one.job is not None and one.job.stage == JobStage.DELIVER and one.job.outcome
        if one.job is None or not has_ended:
            job_id = one.job.id if one.job is not None else "-"
            return Outcome.FAILED, reason(ReasonCode.PREREQUISITE_ABSENT, pipeline=name, job=job_id)
        if (fault := without_result(name, one.job.outcome or "", one.job.reason)) is not None:
            return fault
        if not one.paths:
            return Outcome.FAILED, reason(ReasonCode.PREREQUISITE_ABSENT, pipeline=name, job=one.job.id)
    return None


def result_files(outcome: str, why: str, paths: Mapping[str, Path]) -> ResultFiles:
    """Return the files of one result. ``paths``: by kind of object; ``why`` it is partial."""
    segmentation = paths.get("seg")
    return ResultFiles(
        described_by=segmentation or next(iter(paths.values())),
        segmentation=segmentation,
        partial=why if outcome == Outcome.PARTIAL else "",
    )


def files_of(
    needed: Iterable[PrerequisiteResult], readable: Callable[[Iterable[str]], Iterable[Path]]
) -> dict[str, ResultFiles]:
    """Return the files of each result by pipeline, where ``readable`` finds those that the ledger names."""
    return {
        one.pipeline: result_files(
            one.job.outcome or "",
            reason_text(one.job.reason),
            dict(zip(one.paths, readable(one.paths.values()), strict=True)),
        )
        for one in needed
        if one.job is not None
    }

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
    for result in needed:
        name = title(result.pipeline)
        has_ended = result.job is not None and result.job.stage == JobStage.DELIVER and result.job.outcome
        if result.job is None or not has_ended:
            job_id = result.job.id if result.job is not None else "-"
            return Outcome.FAILED, reason(ReasonCode.PREREQUISITE_ABSENT, pipeline=name, job=job_id)
        if (fault := without_result(name, result.job.outcome or "", result.job.reason)) is not None:
            return fault
        if not result.paths:
            return Outcome.FAILED, reason(ReasonCode.PREREQUISITE_ABSENT, pipeline=name, job=result.job.id)
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
        result.pipeline: result_files(
            result.job.outcome or "",
            reason_text(result.job.reason),
            dict(zip(result.paths, readable(result.paths.values()), strict=True)),
        )
        for result in needed
        if result.job is not None
    }

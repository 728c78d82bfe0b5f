"""What the time of an analysis went to, and what it waited for, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from node.ledger.states import ACTIVE, JobStage
from node.ledger.turnaround import OtherAnalysis, StageTimes, analyses_between, running_analyses, stage_times
from node.operate.turnaround import stages
from node.translation import gettext, ngettext
from node.wording import duration

_WORTH_SECONDS = 1.0
"""A shorter wait for a device is not explained."""


def add_stages(connection: sa.Connection, study: str, jobs: Mapping[str, dict[str, Any]]) -> None:
    """Add to each job, by its id, ``stages`` (seconds by name) and ``waited_for``, the analyses on its device."""
    for work in jobs.values():
        work |= {"stages": {}, "waited_for": []}
    for times in stage_times(connection, [study]):
        work = jobs[times.job_id]
        work["stages"] = stages(times)
        work["waited_for"] = [vars(other) for other in _waited_for(connection, times, work)]


def _waited_for(connection: sa.Connection, of: StageTimes, work: Mapping[str, Any]) -> list[OtherAnalysis]:
    if of.begun_at is not None:
        is_long = of.begun_at - of.scheduled_at >= _WORTH_SECONDS
        return analyses_between(connection, of.job_id, of.scheduled_at, of.begun_at) if is_long else []
    return running_analyses(connection) if work["state"] in ACTIVE and work["stage"] == JobStage.INFER else []


def stage_text(seconds: Mapping[str, float]) -> str:
    """Return how long each stage took, in one line; empty when none has ended."""
    return ", ".join(f"{gettext(name)} {duration(of)}" for name, of in seconds.items())


def wait_text(work: Mapping[str, Any]) -> str:
    """Return behind which analyses a job waited, or waits, for a device; empty: behind none."""
    others: Sequence[Mapping[str, Any]] = work["waited_for"]
    if not others:
        return ""
    last = gettext("job {job} ({pipeline})", job=others[-1]["job_id"], pipeline=others[-1]["pipeline"])
    if "waiting for a device" in work["stages"]:
        return ngettext(
            "waited for a device behind {number} analysis: {last}",
            "waited for a device behind {number} analyses, the last of them {last}",
            len(others),
            last=last,
        )
    return ngettext(
        "waits for a device; {number} analysis runs: {last}",
        "waits for a device; {number} analyses run, the last of them {last}",
        len(others),
        last=last,
    )

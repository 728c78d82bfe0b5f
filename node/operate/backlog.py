"""The backlog in seconds: how long one process would need for what a stage has before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import fmean
from types import MappingProxyType

import sqlalchemy as sa

from node.ledger.backlog import attempt_seconds, due_attempts
from node.ledger.states import JobStage
from node.operate.capacity.requirements import DELIVER_SECONDS, ENCODE_CPU_SECONDS

ASSUMED_SECONDS: Mapping[str, float] = MappingProxyType(
    {JobStage.INFER: 60.0, JobStage.ENCODE: ENCODE_CPU_SECONDS, JobStage.DELIVER: DELIVER_SECONDS}
)
"""Of an attempt, until one was measured. Infer: a chest CT on two cores takes a minute or two; the rest is that of
``ainode plan``."""


def backlog_seconds(connection: sa.Connection, at: float, pipelines: Collection[str]) -> dict[tuple[str, str], float]:
    """Stage and pipeline -> attempts that are due or running, times the seconds that one takes; 0 for an idle one.

    An attempt takes the median of the latest analyses of its pipeline, else the mean of the other pipelines, else
    ``ASSUMED_SECONDS``. ``pipelines``: those that are configured; ``at``: seconds since 1970 UTC.
    """
    due = due_attempts(connection, at)
    named = {*pipelines, *(pipeline for _, pipeline in due)}
    measured = attempt_seconds(connection, sorted(named)) if due else {}
    others = {
        stage: fmean(of)
        if (of := [seconds for (at_stage, _), seconds in measured.items() if at_stage == stage])
        else assumed
        for stage, assumed in ASSUMED_SECONDS.items()
    }
    return {
        (stage, pipeline): due.get((stage, pipeline), 0) * measured.get((stage, pipeline), others[stage])
        for stage in ASSUMED_SECONDS
        for pipeline in sorted(named)
    }

"""Obstacles of a pipeline: why none of its jobs is begun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from node.ledger.alerts import NamedCount, jobs_to_infer
from node.ledger.clock import ledger_clock
from node.ledger.operator_switches import is_stopped
from node.ledger.pipeline_failures import failing_pipelines
from node.ledger.states import ACTIVE, JobStage
from node.operate.fleet import live_members
from node.translation import gettext


def without_worker(connection: sa.Connection) -> list[NamedCount]:
    """Return the jobs that wait for analysis, by pipeline, of those that no live worker has."""
    offered = offered_pipelines(connection)
    return [waiting for waiting in jobs_to_infer(connection) if waiting.name not in offered]


def offered_pipelines(connection: sa.Connection) -> set[str]:
    """Names of the pipelines that live workers have."""
    return {name for member in live_members(connection) for name in member.pipelines}


def obstacle(connection: sa.Connection, pipeline: str) -> dict[str, Any] | None:
    """Return the ``reason`` why no job of a pipeline is begun, and ``until`` when; ``None``: there is none."""
    if is_stopped(connection, pipeline):
        return {"reason": gettext("an operator has stopped the pipeline"), "until": None}
    if pipeline not in offered_pipelines(connection):
        return {"reason": gettext("no live worker has the pipeline"), "until": None}
    failing = failing_pipelines(connection).get(pipeline)
    if failing is None or not failing.is_paused(ledger_clock(connection)):
        return None
    reason = gettext("the pipeline has failed on {failures} jobs in a row", failures=failing.failures)
    return {"reason": reason, "until": failing.until}


def awaited_result(work: Mapping[str, Any], jobs: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return as ``obstacle`` does that a job waits for the result of another one. ``jobs``: of its study."""
    same = ("series_instance_uid", "generation")
    for other in jobs:
        is_needed = other["pipeline"] == work["after"] and all(other[name] == work[name] for name in same)
        if is_needed and other["state"] in ACTIVE and other["stage"] != JobStage.DELIVER:
            text = gettext(
                "it needs the result of pipeline {pipeline!r}, job {id}", pipeline=work["after"], id=other["id"]
            )
            return {"reason": text, "until": None}
    return None

"""What each analysis was like, without a name: facts outlive their studies, so that a change over time can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.tables import job_fact


def record_statistics(connection: sa.Connection, job_id: str, pipeline: str, facts: dict[str, Any]) -> None:
    """Keep what one analysis was like; a later run of the job replaces it."""
    connection.execute(sa.delete(job_fact).where(job_fact.c.job_id == job_id))
    connection.execute(
        sa.insert(job_fact).values(job_id=job_id, pipeline=pipeline, at=ledger_clock(connection), **facts)
    )


def latest_statistics(connection: sa.Connection, pipeline: str, most: int) -> list[dict[str, Any]]:
    """What the latest analyses of a pipeline were like, newest first; scores and shares are 0 to 1, others left out."""
    query = sa.select(job_fact).where(job_fact.c.pipeline == pipeline).order_by(job_fact.c.at.desc()).limit(most)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return [row | {"scores": _shares(row["scores"]), "histogram": _shares(row["histogram"])} for row in rows]


def _shares(values: Any) -> list[float]:
    listed = values if isinstance(values, list) else ()
    return [float(value) for value in listed if isinstance(value, int | float) and 0 <= value <= 1]


def latest_run_seconds(connection: sa.Connection, most: int) -> dict[str, list[float]]:
    """Pipeline -> run times of its analyses among the latest of all, newest first."""
    query = sa.select(job_fact.c.pipeline, job_fact.c.run_seconds).order_by(job_fact.c.at.desc()).limit(most)
    seconds: dict[str, list[float]] = {}
    for row in connection.execute(query):
        seconds.setdefault(row.pipeline, []).append(row.run_seconds)
    return seconds


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """Run times of all analyses of one pipeline."""

    pipeline: str
    analyses: int
    seconds: float
    """The sum."""
    within: tuple[int, ...]
    """How many took no longer than each of the bounds that were asked about."""
    host_mib: float | None
    """Highest peak memory of an analysis."""
    device_mib: float | None


def run_times(connection: sa.Connection, bounds: Sequence[float]) -> list[RunTimes]:
    """Of every analysis ever made, by pipeline. ``bounds``: in seconds."""
    within = [sa.func.sum(sa.case((job_fact.c.run_seconds <= bound, 1), else_=0)) for bound in bounds]
    query = sa.select(
        job_fact.c.pipeline,
        sa.func.count(),
        sa.func.sum(job_fact.c.run_seconds),
        sa.func.max(job_fact.c.host_mib),
        sa.func.max(job_fact.c.device_mib),
        *within,
    ).group_by(job_fact.c.pipeline)
    return [
        RunTimes(
            pipeline=pipeline,
            analyses=analyses,
            seconds=seconds,
            within=tuple(int(number) for number in numbers),
            host_mib=host,
            device_mib=device,
        )
        for pipeline, analyses, seconds, host, device, *numbers in connection.execute(query)
    ]


def analysed_versions(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every version of each pipeline, with its weights, the number of its analyses and the time of first and last."""
    key = job_fact.c["pipeline", "version", "weights"]
    counted = (
        sa.func.count().label("analyses"),
        sa.func.min(job_fact.c.at).label("first_at"),
        sa.func.max(job_fact.c.at).label("last_at"),
    )
    query = sa.select(*key, *counted).group_by(*key).order_by(job_fact.c.pipeline, sa.func.min(job_fact.c.at))
    return [dict(row) for row in connection.execute(query).mappings()]

"""Prometheus metrics, counted in the ledger at each scrape: right for all processes, and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from node.config import Config
from node.ledger.circuits import circuits
from node.ledger.engine import now
from node.ledger.jobs import PROGRESS
from node.ledger.operator_switches import stopped_pipelines
from node.ledger.tables import association, conflict, delivery, instance, job, job_fact, result, series
from node.operate.status import by_role
from node.spool import Spool

BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of run times in seconds."""
_OPEN = ("SCHEDULED", "IN PROGRESS")


def exposition(config: Config, engine: sa.Engine, spool: Spool) -> bytes:
    """The text format of Prometheus. What retention has forgotten is no longer counted: these are gauges."""
    registry = CollectorRegistry()
    registry.register(_Ledger(config, engine, spool))
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class _Ledger:
    """Reads everything at once, for one scrape."""

    config: Config
    engine: sa.Engine
    spool: Spool

    def collect(self) -> Iterator[Metric]:
        at = now()
        disk = _gauge("disk_free_bytes", "Free space of the storage folder")
        disk.add_metric([], self.spool.free_gib() * 2**30)
        yield disk
        low = _gauge("disk_refused_below_bytes", "Images are refused below this much free space")
        low.add_metric([], self.config.storage.min_free_gib * 2**30)
        yield low
        with self.engine.connect() as connection:
            for part in (_received, _work, _delivered, _runs):
                yield from part(connection, at)
            down = _gauge(
                "destination_down", "1: its deliveries wait (it does not answer, or is paused)", "destination"
            )
            open_circuits = {one.destination for one in circuits(connection) if one.opened_at is not None}
            for name in self.config.destinations:
                down.add_metric([name], name in open_circuits)
            yield down
            halted = _gauge("pipeline_stopped", "1: an operator has stopped it", "pipeline")
            stopped = stopped_pipelines(connection)
            for name in self.config.pipelines:
                halted.add_metric([name], name in stopped)
            yield halted
            alive = _gauge("processes", "Processes that beat lately", "role")
            roles = by_role(connection)
            for role in sorted({"worker", "sender", *roles}):
                alive.add_metric([role], roles.get(role, 0))
            yield alive


def _received(connection: sa.Connection, at: float) -> Iterator[Metric]:
    yield _scalar(
        connection, "associations_open", "Associations that are open", association, association.c.closed_at.is_(None)
    )
    yield _scalar(connection, "instances", "Images received and kept", instance)
    yield _scalar(
        connection, "instances_last_hour", "Images of the last hour", instance, instance.c.received_at > at - 3600
    )
    size = _gauge("instance_bytes", "Size of all images received and kept")
    size.add_metric([], float(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(instance.c.size), 0))) or 0))
    yield size
    last = connection.scalar(sa.select(sa.func.max(series.c.last_at)))
    silence = _gauge("seconds_since_last_instance", "Time since the last image came")
    if last is not None:
        silence.add_metric([], at - last)
    yield silence
    states = _gauge("series", "Series by state", "state")
    for row in connection.execute(sa.select(series.c.state, sa.func.count().label("n")).group_by(series.c.state)):
        states.add_metric([row.state], row.n)
    yield states
    yield _scalar(connection, "conflicts", "Images that came again with other content", conflict)


def _work(connection: sa.Connection, at: float) -> Iterator[Metric]:
    rows = connection.execute(
        sa.select(job.c.stage, sa.func.count().label("n"), sa.func.min(PROGRESS).label("oldest"))
        .where(job.c.state.in_(_OPEN))
        .group_by(job.c.stage)
    ).all()
    waiting = {row.stage: (row.n, at - row.oldest) for row in rows}
    backlog = _gauge("backlog", "Jobs that are not finished, by the stage they are in", "stage")
    age = _gauge("queue_age_seconds", "How long the oldest of them has not moved", "stage")
    for stage in ("infer", "encode", "deliver"):
        count, oldest = waiting.get(stage, (0, 0.0))
        backlog.add_metric([stage], count)
        age.add_metric([stage], oldest)
    yield from (backlog, age)
    jobs = _gauge("jobs", "Jobs by pipeline, state and outcome", "pipeline", "state", "outcome")
    columns = (job.c.pipeline, job.c.state, job.c.outcome)
    for row in connection.execute(sa.select(*columns, sa.func.count().label("n")).group_by(*columns)):
        jobs.add_metric([row.pipeline, row.state, row.outcome or ""], row.n)
    yield jobs
    yield _scalar(
        connection, "results_quarantined", "Results that the gate holds back", result, result.c.quarantine.is_not(None)
    )


def _delivered(connection: sa.Connection, at: float) -> Iterator[Metric]:
    counts = _gauge("deliveries", "Deliveries by destination and state", "destination", "state")
    age = _gauge("delivery_age_seconds", "Age of the oldest delivery that is not stored", "destination")
    columns = (delivery.c.destination, delivery.c.state)
    query = sa.select(*columns, sa.func.count().label("n"), sa.func.min(delivery.c.created_at).label("oldest"))
    oldest: dict[str, float] = {}
    for row in connection.execute(query.group_by(*columns)):
        counts.add_metric([row.destination, row.state], row.n)
        oldest.setdefault(row.destination, at)
        if row.state in _OPEN:
            oldest[row.destination] = min(oldest[row.destination], row.oldest)
    for name, since in oldest.items():
        age.add_metric([name], at - since)
    yield from (counts, age)


def _runs(connection: sa.Connection, _at: float) -> Iterator[Metric]:
    """Of every analysis ever made: facts outlive their studies, so this is a true histogram."""
    times = HistogramMetricFamily("ainode_run_seconds", "Run time of the pipeline", labels=["pipeline"])
    sums = [sa.func.sum(sa.case((job_fact.c.run_seconds <= bound, 1), else_=0)) for bound in BUCKETS]
    total = sa.func.sum(job_fact.c.run_seconds)
    query = sa.select(job_fact.c.pipeline, sa.func.count(), total, *sums).group_by(job_fact.c.pipeline)
    for name, count, seconds, *below in connection.execute(query):
        buckets = [(str(bound), float(number)) for bound, number in zip(BUCKETS, below, strict=True)]
        times.add_metric([name], [*buckets, ("+Inf", float(count))], seconds)
    yield times
    memory = _gauge("peak_memory_bytes", "Highest memory of an analysis", "pipeline", "where")
    peaks = (sa.func.max(job_fact.c.host_mib), sa.func.max(job_fact.c.device_mib))
    for name, *mib in connection.execute(sa.select(job_fact.c.pipeline, *peaks).group_by(job_fact.c.pipeline)):
        for where, value in zip(("host", "device"), mib, strict=True):
            if value is not None:
                memory.add_metric([name, where], value * 2**20)
    yield memory


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ainode_{name}", meaning, labels=labels)


def _scalar(
    connection: sa.Connection, name: str, meaning: str, table: sa.Table, *where: sa.ColumnElement[bool]
) -> GaugeMetricFamily:
    found = _gauge(name, meaning)
    found.add_metric([], connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0)
    return found

"""Prometheus metrics, counted in the ledger at each scrape, so that they include all processes and restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from node.config import Config
from node.ledger.analysis_statistics import run_times
from node.ledger.clock import clock_of
from node.ledger.counts import (
    claimed_workitems_by_state,
    conflict_count,
    delivery_counts,
    files_received_since,
    first_and_last_image,
    job_counts,
    open_association_count,
    quarantined_count,
    received_files,
    requested_workitems_by_state,
    series_by_state,
    worklist_queries_by_state,
)
from node.ledger.destination_circuits import circuits
from node.ledger.operator_switches import stopped_pipelines
from node.ledger.shadow import pipelines_in_shadow
from node.ledger.states import ACTIVE, DeliveryState, JobStage
from node.ledger.turnaround import arrived_since, stages_by_pipeline
from node.ledger.verdict_counts import verdict_totals
from node.operate.backlog import backlog_seconds
from node.operate.status import by_role
from node.operate.turnaround import median_stages, turnarounds
from node.spool import Spool

BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of run times in seconds."""


def exposition(config: Config, engine: sa.Engine, spool: Spool) -> bytes:
    """The text format of Prometheus. They are gauges, because purged studies are no longer counted."""
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
        at = clock_of(self.engine)
        disk = _gauge("disk_free_bytes", "Free space of the storage folder")
        disk.add_metric([], self.spool.space().free)
        yield disk
        low = _gauge("disk_refused_below_bytes", "Images are refused below this much free space")
        low.add_metric([], self.config.storage.min_free_gib * 2**30)
        yield low
        with self.engine.connect() as connection:
            for part in (_received, _work, _delivered, _runs, _turnaround, _verdicts):
                yield from part(connection, at)
            ahead = _gauge(
                "backlog_seconds", "Work that is due or running, in seconds of one process", "stage", "pipeline"
            )
            for labels, seconds in backlog_seconds(connection, at, self.config.pipelines).items():
                ahead.add_metric(labels, seconds)
            yield ahead
            down = _gauge(
                "destination_down", "1: its deliveries wait (it does not answer, or is paused)", "destination"
            )
            open_circuits = {circuit.destination for circuit in circuits(connection) if circuit.opened_at is not None}
            for name in self.config.destinations:
                down.add_metric([name], name in open_circuits)
            yield down
            halted = _gauge("pipeline_stopped", "1: an operator has stopped it", "pipeline")
            stopped = stopped_pipelines(connection)
            for name in self.config.pipelines:
                halted.add_metric([name], name in stopped)
            yield halted
            in_shadow = _gauge(
                "pipeline_in_shadow", "1: its stop rule has tripped; its results are sent nowhere", "pipeline"
            )
            shadow = pipelines_in_shadow(connection)
            for name in self.config.pipelines:
                in_shadow.add_metric([name], name in shadow)
            yield in_shadow
            alive = _gauge("processes", "Processes with a recent heartbeat", "role")
            roles = by_role(connection)
            for role in sorted({"worker", "sender", *roles}):
                alive.add_metric([role], roles.get(role, 0))
            yield alive


def _received(connection: sa.Connection, at: float) -> Iterator[Metric]:
    received, last_hour = received_files(connection), files_received_since(connection, at - 3600)
    yield _scalar("associations_open", "Associations that are open", open_association_count(connection))
    yield _scalar("instances", "Images received and kept", received.files)
    yield _scalar("instances_last_hour", "Images of the last hour", last_hour.files)
    yield _scalar("instance_bytes", "Size of all images received and kept", received.size)
    _, last = first_and_last_image(connection)
    silence = _gauge("seconds_since_last_instance", "Time since the last image came")
    if last is not None:
        silence.add_metric([], at - last)
    yield silence
    yield _by_state("series", "Series by state", series_by_state(connection))
    queries = worklist_queries_by_state(connection)
    yield _by_state("worklist_queries", "Queries of the Modality Worklist, by what became of them", queries)
    requests = requested_workitems_by_state(connection)
    yield _by_state("requested_workitems", "Workitems that other systems have requested here", requests)
    claims = claimed_workitems_by_state(connection)
    yield _by_state("claimed_workitems", "Workitems of another system, by how far they are", claims)
    yield _scalar("conflicts", "Images received again with different content", conflict_count(connection))


def _work(connection: sa.Connection, at: float) -> Iterator[Metric]:
    counts = job_counts(connection)
    backlog = _gauge("backlog", "Jobs that are not finished, by the stage they are in", "stage")
    age = _gauge("queue_age_seconds", "How long the oldest of them has not moved", "stage")
    for stage in JobStage:
        waiting = [count for count in counts if count.stage == stage and count.state in ACTIVE]
        backlog.add_metric([stage], sum(count.jobs for count in waiting))
        age.add_metric([stage], max((at - count.oldest_progress for count in waiting), default=0.0))
    yield from (backlog, age)
    jobs = _gauge("jobs", "Jobs by pipeline, state and outcome", "pipeline", "state", "outcome")
    alike: Counter[tuple[str, str, str]] = Counter()
    for count in counts:
        alike[count.pipeline, count.state, count.outcome or ""] += count.jobs
    for labels, number in alike.items():
        jobs.add_metric(labels, number)
    yield jobs
    yield _scalar("results_quarantined", "Results that the gate holds back", quarantined_count(connection))


def _delivered(connection: sa.Connection, at: float) -> Iterator[Metric]:
    counts = _gauge("deliveries", "Deliveries by destination and state", "destination", "state")
    age = _gauge("delivery_age_seconds", "Age of the oldest delivery that is not stored", "destination")
    oldest: dict[str, float] = {}
    for count in delivery_counts(connection):
        counts.add_metric([count.destination, count.state], count.deliveries)
        since = count.oldest if count.state in (DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS) else at
        oldest[count.destination] = min(oldest.get(count.destination, at), since)
    for name, since in oldest.items():
        age.add_metric([name], at - since)
    yield from (counts, age)


def _runs(connection: sa.Connection, _at: float) -> Iterator[Metric]:
    """Of every analysis ever made: facts outlive their studies, so this is a true histogram."""
    times = HistogramMetricFamily("ainode_run_seconds", "Run time of the pipeline", labels=["pipeline"])
    memory = _gauge("peak_memory_bytes", "Highest memory of an analysis", "pipeline", "where")
    for of in run_times(connection, BUCKETS):
        buckets = [(str(bound), float(number)) for bound, number in zip(BUCKETS, of.within, strict=True)]
        times.add_metric([of.pipeline], [*buckets, ("+Inf", float(of.analyses))], of.seconds)
        for where, mib in (("host", of.host_mib), ("device", of.device_mib)):
            if mib is not None:
                memory.add_metric([of.pipeline, where], mib * 2**20)
    yield from (times, memory)


def _turnaround(connection: sa.Connection, at: float) -> Iterator[Metric]:
    """Of the last hour: a scrape shows what readers wait for now."""
    times = _gauge(
        "turnaround_seconds", "From the last image to the proof, last hour", "pipeline", "scanner", "quantile"
    )
    number = _gauge("turnaround_analyses", "Analyses that arrived in the last hour", "pipeline", "scanner")
    stage = _gauge("turnaround_stage_seconds", "Median of each part of it, last hour", "pipeline", "stage")
    arrived = arrived_since(connection, at - 3600)
    for turnaround in turnarounds(arrived):
        number.add_metric([turnaround.pipeline, turnaround.scanner], turnaround.analyses)
        for share, seconds in turnaround.quantiles.items():
            times.add_metric([turnaround.pipeline, turnaround.scanner, f"{share:g}"], seconds)
    for pipeline, staged in stages_by_pipeline(connection, arrived).items():
        for name, seconds in median_stages(staged).items():
            stage.add_metric([pipeline, name], seconds)
    yield from (times, number, stage)


def _verdicts(connection: sa.Connection, _at: float) -> Iterator[Metric]:
    """Of every analysis ever judged; verdicts that another one replaced do not count."""
    lesions = _gauge("verdicts", "Lesions by what readers say of them", "pipeline", "version", "verdict")
    for of in verdict_totals(connection):
        lesions.add_metric([of.pipeline, of.version, of.verdict], of.lesions)
    yield lesions


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ainode_{name}", meaning, labels=labels)


def _by_state(name: str, meaning: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    gauge = _gauge(name, meaning, "state")
    for state, number in counts.items():
        gauge.add_metric([state], number)
    return gauge


def _scalar(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    gauge = _gauge(name, meaning)
    gauge.add_metric([], value)
    return gauge

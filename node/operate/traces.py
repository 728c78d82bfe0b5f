"""OpenTelemetry traces of the stages, made from the ledger when a job has ended: no stage waits for a collector.

A study is one trace; its Trace ID is derived from the Study Instance UID, so that machines and restarts agree on it. A
job is a root span with its attempts below. Names and attributes hold UIDs, never patients.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from node import __version__
from node.actor import look_every
from node.config import Config
from node.errors import PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind
from node.ledger.tables import event, job, series

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

POLL_SECONDS = 5.0
_AT_ONCE = 100
_SECONDS = 10.0
_ENDS = (EventKind.ATTEMPT_FINISHED, EventKind.ATTEMPT_FAILED)


@dataclass(frozen=True, kw_only=True)
class Span:
    """One stretch of time; ``start`` and ``end`` in seconds since 1970 UTC."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    error: str = ""
    """What went wrong; empty when nothing did."""


def spans_of(
    job_row: Mapping[str, Any], series_row: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> list[Span]:
    """Spans of an ended job, the root first: receiving, waiting for completeness, and every attempt of a stage.

    ``events``: of the job, in their order.
    """
    steps = [
        Span(
            name="receive",
            start=series_row["first_at"],
            end=series_row["last_at"],
            attributes={"images": series_row["instances"], "modality": series_row["modality"]},
        ),
        Span(
            name="complete",
            start=series_row["last_at"],
            end=max(series_row["completed_at"] or job_row["created_at"], series_row["last_at"]),
            attributes={"signal": series_row["completed_by"] or ""},
        ),
        *_attempts(events),
    ]
    root = Span(
        name=f"job {job_row['pipeline']}",
        start=min(step.start for step in steps),
        end=max(job_row["updated_at"], *(step.end for step in steps)),
        attributes={
            "dicom.study_instance_uid": job_row["study_instance_uid"],
            "dicom.series_instance_uid": job_row["series_instance_uid"],
            "job": job_row["id"],
            "pipeline": job_row["pipeline"],
            "rule": job_row["rule"],
            "generation": job_row["generation"],
            "outcome": job_row["outcome"] or "",
        },
        error=(job_row["reason"] or "failed") if job_row["outcome"] == "failed" else "",
    )
    return [root, *steps]


def _attempts(events: Sequence[Mapping[str, Any]]) -> Iterator[Span]:
    for one in events:
        if one["kind"] in _ENDS:
            attributes = {"destination": one["destination"], "error.type": one["error_code"]}
            yield Span(
                name=one["stage"],
                start=one["at"] - one["seconds"],
                end=one["at"],
                attributes={name: value for name, value in attributes.items() if value}
                | ({"attempt": one["attempt"]} if one["attempt"] > 1 else {}),
                error=one["parameters"].get("error", ""),
            )


class Tracer:
    """Sends the traces of ended jobs to ``[trace] endpoint``; what the collector did not take is sent again."""

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        """Raises ``PlatformError`` when traces are wanted and OpenTelemetry is not installed."""
        self._engine = engine
        self._out: _Out | None = None
        if config.trace.endpoint:
            self._out = _Out(config.trace.endpoint, config.ae.title.strip())

    def run(self, stop: threading.Event) -> None:
        """Look every five seconds until ``stop`` is set; not at all without an endpoint."""
        if self._out is not None:
            look_every(POLL_SECONDS, stop, "traces", self.step)
            self._out.close()

    def step(self, at: float) -> int:
        """Send what has ended and was not sent; return how many jobs."""
        due = sa.and_(
            job.c.state.in_(("COMPLETED", "CANCELED")),
            sa.or_(job.c.traced_at.is_(None), job.c.traced_at < job.c.updated_at),
        )
        with self._engine.connect() as connection:
            query = sa.select(job).where(due).order_by(job.c.updated_at).limit(_AT_ONCE)
            jobs = [dict(row) for row in connection.execute(query).mappings()]
            traces = [(str(one["study_instance_uid"]), _read(connection, one)) for one in jobs]
        if self._out is None or not jobs or not self._out.send(traces):
            return 0
        with begin_immediate(self._engine) as connection:
            mine = job.c.id.in_([one["id"] for one in jobs])
            connection.execute(sa.update(job).where(mine).values(traced_at=at))
        return len(jobs)


def _read(connection: sa.Connection, job_row: Mapping[str, Any]) -> list[Span]:
    here = sa.and_(
        series.c.study_instance_uid == job_row["study_instance_uid"],
        series.c.series_instance_uid == job_row["series_instance_uid"],
    )
    series_row = dict(connection.execute(sa.select(series).where(here)).mappings().one())
    events = connection.execute(sa.select(event).where(event.c.job_id == job_row["id"]).order_by(event.c.id)).mappings()
    return spans_of(job_row, series_row, [dict(row) for row in events])


class _Out:
    """The SDK: spans with given times and identifiers, exported by OTLP over HTTP."""

    def __init__(self, endpoint: str, title: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            raise PlatformError(f"[trace] endpoint: {error}; install ainode[tracing], or leave it empty") from error
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_SECONDS)
        resource = {"service.name": "ainode", "service.version": __version__, "service.instance.id": title}
        self._resource = Resource.create(resource)

    def close(self) -> None:
        self._exporter.shutdown()

    def send(self, traces: Sequence[tuple[str, list[Span]]]) -> bool:
        """Study Instance UID and spans, the root first; whether the collector took them all."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [made for uid, trace in traces for made in self._made(uid, trace)]
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def _made(self, study_uid: str, trace: list[Span]) -> Iterator[ReadableSpan]:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

        root = None
        for span in trace:
            key = f"{trace[0].attributes['job']} {span.name} {span.start}"
            context = SpanContext(
                trace_id=int(_digest(study_uid, 32), 16),
                span_id=int(_digest(key, 16), 16),
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
            yield ReadableSpan(
                name=span.name,
                context=context,
                parent=root,
                resource=self._resource,
                attributes=dict(span.attributes),
                start_time=round(span.start * 1e9),
                end_time=round(span.end * 1e9),
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            )
            root = root or context


def _digest(text: str, digits: int) -> str:
    return sha256(text.encode()).hexdigest()[:digits]

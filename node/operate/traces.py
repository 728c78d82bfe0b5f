"""OpenTelemetry traces of stages, made from the ledger after a job has ended, so that no stage waits.

A study is one trace; its Trace ID is derived from the Study Instance UID, so that machines and restarts agree on it. A
job is a root span with its attempts below. Names and attributes hold UIDs, never patients.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import sqlalchemy as sa

from node import __version__
from node.actor import look_every
from node.config import Config
from node.errors import PlatformError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind
from node.ledger.job_traces import JobTrace, mark_traced, untraced_jobs
from node.ledger.leadership import Leadership
from node.ledger.study_history import Event
from node.outcome import Outcome
from node.reasons import reason_text

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

POLL_SECONDS = 5.0
_AT_ONCE = 100
_SECONDS = 10.0
_ENDS = (EventKind.ATTEMPT_FINISHED, EventKind.ATTEMPT_FAILED)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span; ``start`` and ``end`` in seconds since 1970 UTC."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    error: str = ""
    """What went wrong; empty when nothing did."""


def spans_of(trace: JobTrace) -> list[Span]:
    """Spans of an ended job, the root first: receiving, waiting for completeness, and every attempt of a stage."""
    job, series = trace.job, trace.series
    steps = [
        Span(
            name="receive",
            start=series.first_at,
            end=series.last_at,
            attributes={"images": series.instances, "modality": series.modality},
        ),
        Span(
            name="complete",
            start=series.last_at,
            end=max(series.completed_at or job.created_at, series.last_at),
            attributes={"signal": series.completed_by or ""},
        ),
        *_attempts(trace.events),
    ]
    root = Span(
        name=f"job {job.pipeline}",
        start=min(step.start for step in steps),
        end=max(job.updated_at, *(step.end for step in steps)),
        attributes={
            "dicom.study_instance_uid": job.study_instance_uid,
            "dicom.series_instance_uid": job.series_instance_uid,
            "job": job.id,
            "pipeline": job.pipeline,
            "rule": job.rule,
            "generation": job.generation,
            "outcome": job.outcome or "",
        },
        error=(reason_text(job.reason) or Outcome.FAILED) if job.outcome == Outcome.FAILED else "",
    )
    return [root, *steps]


def _attempts(events: Sequence[Event]) -> Iterator[Span]:
    for event in events:
        if event.kind in _ENDS and event.stage is not None and event.seconds is not None:
            attributes = {"destination": event.destination, "error.type": event.error_code}
            number = event.attempt or 1
            yield Span(
                name=event.stage,
                start=event.at - event.seconds,
                end=event.at,
                attributes={name: value for name, value in attributes.items() if value}
                | ({"attempt": number} if number > 1 else {}),
                error=event.parameters.get("error", ""),
            )


class Tracer:
    """Sends the traces of ended jobs to ``[trace] endpoint``; what the collector did not take is sent again.

    Of several machines one does.
    """

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        """Raises ``PlatformError`` when traces are wanted and OpenTelemetry is not installed."""
        self._engine = engine
        self._leadership = Leadership(engine, "traces")
        self._out: _Out | None = None
        if config.trace.endpoint:
            self._out = _Out(config.trace.endpoint, config.ae.title.strip())

    def run(self, stop: threading.Event) -> None:
        """Look every five seconds until ``stop`` is set; not at all without an endpoint."""
        if self._out is not None:
            look_every(POLL_SECONDS, stop, "traces", lambda: self.step(clock_of(self._engine)))
            self._leadership.release()
            self._out.close()

    def step(self, at: float) -> int:
        """Send what has ended and was not sent; return how many jobs."""
        if not self._leadership.is_ours():
            return 0
        with self._engine.connect() as connection:
            jobs = untraced_jobs(connection, _AT_ONCE)
        traces = [(trace.job.study_instance_uid, spans_of(trace)) for trace in jobs]
        if self._out is None or not jobs or not self._out.send(traces):
            return 0
        with begin_immediate(self._engine) as connection:
            mark_traced(connection, [trace.job.id for trace in jobs], at)
        return len(jobs)


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

        spans = [span for uid, trace in traces for span in self._finished_spans(uid, trace)]
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def _finished_spans(self, study_uid: str, trace: list[Span]) -> Iterator[ReadableSpan]:
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

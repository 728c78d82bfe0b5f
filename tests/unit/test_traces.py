"""Traces: what a collector gets of a job that the real transitions have been through, and when it was away."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledgers import open_copy
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from node.config import Config, parse
from node.errors import ConfigError
from node.ledger import JobStage
from node.ledger.deliveries import begin_delivery
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import record_outcome, schedule_results
from node.ledger.jobs import Attempt, NewJob, Retries
from node.ledger.tables import series
from node.ledger.transitions import begin_attempt, fail_attempt, finish_attempt
from node.operate.traces import Tracer

STUDY = "1.2.826.0.1.3680043.8.498.1"
RETRIES = Retries(max_attempts=3, first_seconds=0.0, max_seconds=0.0)


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                (of_resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
                collector.resource = {a.key: a.value.string_value for a in of_resource.resource.attributes}
                collector.spans += of_resource.scope_spans[0].spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sa.Engine]:
    """With one job that failed once at inference, was delivered and is completed."""
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    new = NewJob(
        study_instance_uid=STUDY, series_instance_uid=f"{STUDY}.1", generation=1, pipeline="nodule", rule="chest",
        destinations=("pacs",), priority=2,
    )  # fmt: skip
    with begin_immediate(engine) as connection:
        connection.execute(
            series.insert().values(
                study_instance_uid=STUDY, series_instance_uid=f"{STUDY}.1", modality="CT", instances=133,
                first_at=1000.0, last_at=1020.0, state="COMPLETE", generation=1, completed_by="quiet",
                completed_at=1050.0,
            )
        )  # fmt: skip
        create_job(connection, new)

        def attempt(stage: str, number: int = 0, subject: str = "") -> Attempt:
            return Attempt(job_id=new.id, stage=stage, run=0, number=number, subject=subject)

        begin_attempt(connection, attempt(JobStage.INFER))
        fail_attempt(connection, attempt(JobStage.INFER), "the network diverged", 2.0, RETRIES, permanent=False)
        begin_attempt(connection, attempt(JobStage.INFER, 1))
        finish_attempt(
            connection, attempt(JobStage.INFER, 1), 3.0, lambda c: record_outcome(c, new.id, "findings", None)
        )
        begin_attempt(connection, attempt(JobStage.ENCODE))
        finish_attempt(connection, attempt(JobStage.ENCODE), 1.0, lambda c: schedule_results(c, new.id, {"pacs": ""}))
        begin_attempt(connection, attempt(JobStage.DELIVER, subject="pacs"))
        begin_delivery(connection, new.id, "pacs")
        finish_attempt(connection, attempt(JobStage.DELIVER, subject="pacs"), 0.5, lambda _: None)
        connection.execute(sa.text("update job set state = 'COMPLETED'"))
    yield engine
    engine.dispose()


def tracer(ledger: sa.Engine, endpoint: str) -> Tracer:
    return Tracer(Config.model_validate({"trace": {"endpoint": endpoint}}), ledger)


def test_a_study_is_one_trace_with_every_stage_and_attempt(ledger: sa.Engine, collector: Collector):
    assert tracer(ledger, collector.endpoint).step(2000.0) == 1
    names = [span.name for span in collector.spans]
    assert names == ["job nodule", "receive", "complete", "infer", "infer", "encode", "deliver"]
    root, receive, complete, failed, infer, *_ = collector.spans
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    assert {span.parent_span_id for span in collector.spans[1:]} == {root.span_id}
    told = {a.key: a.value.string_value for a in root.attributes}
    assert (told["dicom.study_instance_uid"], told["outcome"]) == (STUDY, "findings")
    assert (receive.end_time_unix_nano - receive.start_time_unix_nano) == 20 * 10**9
    assert (complete.end_time_unix_nano - complete.start_time_unix_nano) == 30 * 10**9
    assert failed.status.message == "the network diverged"
    assert infer.status.message == ""
    assert (infer.end_time_unix_nano - infer.start_time_unix_nano) == pytest.approx(3 * 10**9, rel=1e-6)
    assert [a.value.string_value for a in collector.named("deliver")[0].attributes] == ["pacs"]
    assert collector.resource["service.name"] == "ainode"


def test_a_trace_is_sent_once_and_again_after_a_retry_with_the_same_ids(ledger: sa.Engine, collector: Collector):
    sending = tracer(ledger, collector.endpoint)
    assert [sending.step(2e9), sending.step(2e9)] == [1, 0]
    first = {span.span_id for span in collector.spans}
    with begin_immediate(ledger) as connection:
        connection.execute(sa.text("update job set updated_at = 3e9"))
    assert tracer(ledger, collector.endpoint).step(3e9 + 1) == 1
    assert {span.span_id for span in collector.spans} == first


def test_what_a_collector_did_not_take_is_sent_later(ledger: sa.Engine, collector: Collector, monkeypatch):
    monkeypatch.setattr("node.operate.traces._SECONDS", 0.3)
    assert tracer(ledger, "http://127.0.0.1:1/v1/traces").step(2e9) == 0
    assert tracer(ledger, collector.endpoint).step(2e9) == 1


def test_an_endpoint_that_is_no_address_is_refused():
    with pytest.raises(ConfigError, match="4318/v1/traces"):
        parse('[trace]\nendpoint = "collector:4318"')

"""A fault of our own in an encoder keeps its traceback, costs no more than it must, and is no sentence of a report."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from job_node import JobNode, config_of, encode_here

from node.errors import DeliveryError, EncodeError, GateError, TimeLimitError
from node.jobs.failure import logged_error

pytestmark = pytest.mark.thorough

encoding = import_module("node.results.encode")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[JobNode]:
    with JobNode(config_of(tmp_path, does="findings")).working() as made:
        yield made


def broken(*_: Any, **__: Any) -> Any:
    raise AttributeError("'NoneType' object has no attribute 'colour'")


def test_a_fault_in_an_optional_object_costs_that_object_only(
    node: JobNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode_here(monkeypatch)
    monkeypatch.setattr(encoding, "draw_key_image", broken)
    job_id = node.enqueue(destinations=("pictures",))
    assert node.wait(job_id).outcome == "findings"
    assert {row.kind for row in node.results(job_id)} == {"seg", "sr"}
    assert ("objects withheld", "Not sent: key images, pdf (internal error)") in node.events(job_id)
    assert "AttributeError: 'NoneType' object has no attribute 'colour'" in caplog.text
    assert "in broken" in caplog.text, "the traceback"


@pytest.mark.parametrize("fault", [AssertionError(), MemoryError(), OSError(28, "No space left on device")])
def test_no_fault_in_an_optional_object_costs_the_report(fault: Exception) -> None:
    with pytest.raises(EncodeError, match=r"^internal error$") as caught, encoding._making("pdf", "key images"):
        raise fault
    assert (caught.value.kinds, caught.value.__cause__) == ({"pdf", "key images"}, fault)
    with pytest.raises(type(fault)), encoding._making("seg"):
        raise fault


def test_a_known_error_in_an_optional_object_stays_what_it_is() -> None:
    with pytest.raises(TimeLimitError), encoding._making("pdf"):
        raise TimeLimitError("pdf took longer than 600 s")


@pytest.mark.parametrize("encoder", ["encode_sr", "encode_seg", "place_findings"])
def test_a_fault_in_a_report_or_segmentation_is_tried_again_logged_and_reported_as_a_failure(
    node: JobNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, encoder: str
) -> None:
    encode_here(monkeypatch)
    monkeypatch.setattr(encoding, encoder, broken)
    job_id = node.enqueue()
    job = node.wait(job_id)
    assert (job.state, job.outcome) == ("COMPLETED", "failed")
    assert [what for what, _ in node.events(job_id)].count("encode failed") == node.config.jobs.max_attempts
    words = " ".join(detail for _, detail in node.events(job_id))
    assert f"internal error; the log of job {job_id} has the details" in words
    assert "in broken" in caplog.text
    (row,) = node.results(job_id)
    report = node.spool.absolute(row.path).read_bytes()
    assert b"NOT ANALYSED" in report
    assert job_id.encode() in report
    for word in (b"NoneType", b"AttributeError", b"Traceback"):
        assert word not in report
        assert word.decode() not in words
    assert node.delivered()


def test_a_cause_that_may_be_a_fault_of_our_own_is_logged_and_a_plain_refusal_is_not() -> None:
    def caused(error: Exception, cause: Exception | None) -> bool:
        error.__cause__ = cause
        return logged_error(error) is not None

    assert caused(EncodeError("no"), TypeError("bug"))
    assert caused(GateError("no"), caused_by(EncodeError("no"), KeyError("bug")))
    assert caused(ValueError("bug"), None)
    assert not caused(EncodeError("no"), None)
    assert not caused(DeliveryError("no"), ConnectionRefusedError())
    assert not caused(GateError("no"), EncodeError("no"))


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("everything", b"Nodule 1 would fill 100 % of the images"),
        ("nothing", b"the analysis ended without a result and does not say what it looked for"),
    ],
)
def test_a_result_that_cannot_be_used_is_reported_with_its_own_reason(tmp_path: Path, does: str, why: bytes) -> None:
    with JobNode(config_of(tmp_path, does=does)).working() as node:
        job_id = node.enqueue()
        job = node.wait(job_id)
        assert (job.state, job.outcome) == ("COMPLETED", "failed")
        (row,) = node.results(job_id)
        assert why in node.spool.absolute(row.path).read_bytes()

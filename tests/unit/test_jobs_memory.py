"""Admission by memory, learned from earlier analyses."""

from __future__ import annotations

import gc
import logging
import weakref
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dicom_files import ct_series, write
from job_pipelines import create
from worker_tasks import task

from node.config import PipelineTable
from node.errors import AdmissionError
from node.inference.child import execute
from node.inference.memory_admission import MemoryPeak, admit, expected_mib
from node.inference.prefetch import Prefetcher
from node.inference.task import Task


def seen(voxels: int, host: float, device: float | None = None) -> MemoryPeak:
    return MemoryPeak(device="cpu", voxels=voxels, host_mib=host, device_mib=device)


def test_the_need_grows_with_the_voxels_and_the_worst_case_counts():
    assert expected_mib([seen(1000, 600), seen(1000, 800, 90)], 1000) == (800, 90)
    assert expected_mib([seen(1000, 600, 80)], 1500) == (900, 120)
    assert expected_mib([seen(4000, 600)], 1000) == (600, 0)


def test_from_a_much_smaller_series_nothing_is_learned():
    assert expected_mib([seen(1000, 600)], 2001) == (0, 0)
    assert expected_mib([], 10) == (0, 0)


def loaded(*names: str) -> OrderedDict[str, Any]:
    return OrderedDict((name, create(weights=None, device="cpu", options={})) for name in names)


@pytest.mark.thorough
def test_models_are_unloaded_until_the_device_has_room_and_the_one_in_use_stays():
    models = loaded("oldest", "older", "this")
    admit("this", [seen(100, 1, 500)], 100, models, lambda: 600 - 100 * len(models))
    assert list(models) == ["this"]
    models = loaded("oldest", "older", "this")
    admit("this", [seen(100, 1, 400)], 100, models, lambda: 600 - 100 * len(models))
    assert list(models) == ["older", "this"]


def test_a_job_that_the_machine_cannot_hold_is_refused_before_it_runs(tmp_path: Path):
    with pytest.raises(AdmissionError, match=r"memory: pipeline big will take about 1000000000 MiB"):
        admit("big", [seen(100, 1e9)], 100, OrderedDict(), lambda: 0.0)
    big = Task(
        job_id="j",
        pipeline="scripted",
        table=PipelineTable(factory="job_pipelines:create", options={"log": str(tmp_path / "log")}),
        paths=tuple(write(ct_series(n=4, size=16), tmp_path / "in")),
        seen=(seen(1024, 1e9),),
        folder=tmp_path / "out",
    )
    reply = execute(big, OrderedDict(), "cpu", Prefetcher())
    assert reply.error == AdmissionError.code
    assert "available" in reply.reason
    assert not (tmp_path / "log").exists()
    elsewhere = replace(big, seen=(replace(big.seen[0], device="cuda:0"),))
    assert not execute(elsewhere, OrderedDict(), "cpu", Prefetcher()).error, "what another device took does not count"


@pytest.mark.thorough
@pytest.mark.parametrize("does", ["raise", "findings"])
def test_a_model_that_holds_itself_is_freed_when_it_is_unloaded(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.CRITICAL, "node.inference.child")  # what pytest keeps of an exception holds the model
    made: list[weakref.ref[Any]] = []

    def holding_itself(**arguments: Any) -> Any:
        model = create(**arguments)
        model.itself = model
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr("job_pipelines.create", holding_itself)
    models: OrderedDict[str, Any] = OrderedDict()
    execute(task(tmp_path, does=does), models, "cpu", Prefetcher())
    if does == "findings":  # another one needs its room
        models["this"] = None
        admit("this", [seen(100, 1, 500)], 100, models, lambda: 600 - 100 * len(models))
    gc.collect()
    assert [model() for model in made] == [None]

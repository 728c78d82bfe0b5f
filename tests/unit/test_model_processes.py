"""One process for each pipeline and what defines it, as many as the memory of the machine holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from dicom_files import ct_series, write
from worker_tasks import wanted

from node.config import PipelineTable
from node.errors import AdmissionError, PipelineError
from node.inference.memory_admission import MemoryPeak
from node.inference.model_process import ModelProcess, TaskAborted
from node.inference.model_processes import MemoryTaken, ModelProcesses, definition_of
from node.inference.task import CACHES, Task


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ModelProcesses]:
    running = ModelProcesses(1, 240.0, tmp_path / "trays", {})
    yield running
    running.close()


@pytest.fixture
def machine(processes: ModelProcesses, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine whose memory holds two processes; ``mib`` changes that."""
    memory = {"mib": 3500.0}

    def free_mib() -> float:
        return memory["mib"] - 1000.0 * len(processes._processes)

    monkeypatch.setattr("node.inference.model_processes.free_mib", free_mib)
    return memory


def task(folder: Path, pipeline: str, trust_group: str = "", **options: Any) -> Task:
    paths = tuple(write(ct_series(n=4, size=16), folder / "in"))
    table = PipelineTable(factory="job_pipelines:create", options={"does": "process", **options})
    table = table.model_copy(update={"trust_group": trust_group})
    return Task(job_id=pipeline, pipeline=pipeline, table=table, paths=paths, folder=folder / "out")


def run(processes: ModelProcesses, one: Task) -> dict[str, Any]:
    """``id`` of the process that ran it, which nobody else's has, and whether its series was ``decoded`` before."""
    answer: dict[str, Any] = json.loads(processes.run("cpu", one, wanted).reason)
    return answer


def serving(processes: ModelProcesses, one: Task) -> ModelProcess:
    """The worker that would run a task next."""
    process = processes._begin("cpu", one)
    process.busy = False
    return process.worker


def pipelines(processes: ModelProcesses) -> list[str]:
    """Those that have a process, the one used last at the end."""
    return [name.removeprefix("pipeline ") for _, name in processes._processes]


@pytest.mark.thorough
def test_pipelines_that_alternate_are_loaded_once_each_in_processes_of_their_own(processes, tmp_path):
    """The next series is decoded by the process that needs it; an exception ends only the process it happened in."""
    a, b = task(tmp_path / "a", "a"), task(tmp_path / "b", "b")
    processes.prepare("cpu", b)  # it has no process yet
    first, second = run(processes, a), run(processes, b)
    assert first["id"] != second["id"]
    assert not second["decoded"]
    processes.prepare("cpu", b)
    assert run(processes, a) == {"id": first["id"], "decoded": False}
    assert run(processes, b) == {"id": second["id"], "decoded": True}
    processes.prepare("cpu", b)
    processes.discard("cpu", b)
    assert not run(processes, b)["decoded"]
    with pytest.raises(PipelineError, match="the network diverged"):
        processes.run("cpu", task(tmp_path, "c", does="raise"), wanted)
    assert (run(processes, a)["id"], run(processes, b)["id"]) == (first["id"], second["id"])


def test_pipelines_of_one_trust_group_share_a_process_and_others_do_not(tmp_path):
    tasks = [task(tmp_path, name, group) for name, group in (("a", "ours"), ("b", "ours"), ("c", "theirs"), ("d", ""))]
    processes = ModelProcesses(1, 240.0, tmp_path / "trays", {job.pipeline: job.table for job in tasks})
    a, b, c, d = (serving(processes, job) for job in tasks)
    assert a is b
    assert len({id(worker) for worker in (a, c, d)}) == 3
    processes.close()


def nice_levels(worker: ModelProcess) -> set[int]:
    """Of the process of a worker and of all that it has started."""
    first = psutil.Process(worker._process.pid)
    return {process.nice() for process in (first, *first.children(recursive=True))}


@pytest.mark.thorough
def test_a_pipeline_in_shadow_has_a_process_of_its_own_that_leaves_the_processor_to_others(processes, tmp_path):
    sent = task(tmp_path, "a")
    tried = replace(sent, in_shadow=True)
    assert run(processes, sent)["id"] != run(processes, tried)["id"]
    assert nice_levels(serving(processes, sent)) == {os.getpriority(os.PRIO_PROCESS, 0)}
    assert nice_levels(serving(processes, tried)) == {min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)}
    assert pipelines(processes) == ["a", "a in shadow"]


def test_a_task_in_shadow_never_shares_a_process(tmp_path):
    """Not even with another one of its trust group: what is sent and what is tried would read one pipe."""
    sent, other = (task(tmp_path, name, "ours") for name in "ab")
    processes = ModelProcesses(1, 240.0, tmp_path / "trays", {job.pipeline: job.table for job in (sent, other)})
    tasks = (sent, replace(sent, in_shadow=True), replace(other, in_shadow=True))
    assert len({id(serving(processes, job)) for job in tasks}) == 3
    assert serving(processes, other) is serving(processes, sent)
    processes.close()


def test_compiled_code_of_a_task_in_shadow_is_its_own(tmp_path, monkeypatch):
    """One that pauses would hold a lock in the folder of the one that is sent."""
    monkeypatch.setenv(CACHES[0], str(tmp_path))
    sent = task(tmp_path, "a")
    processes = ModelProcesses(1, 240.0, tmp_path / "trays", {"a": sent.table})
    caches = {serving(processes, job)._cache for job in (sent, replace(sent, in_shadow=True))}
    assert len(caches) == 2
    for cache in caches:
        os.utime(cache, (1.0, 1.0))
    ModelProcesses(1, 240.0, tmp_path / "trays", {"a": sent.table})
    assert all(cache.is_dir() for cache in caches)
    processes.close()


def test_the_memory_of_processes_in_shadow_goes_to_what_is_sent_before_any_other(processes, machine, tmp_path):
    sent, idle, busy = task(tmp_path, "a"), *(replace(task(tmp_path, name), in_shadow=True) for name in "bc")
    machine["mib"] = 4500.0
    serving(processes, sent)
    serving(processes, idle)
    processes._begin("cpu", busy)  # and stays busy
    serving(processes, task(tmp_path, "d"))
    assert pipelines(processes) == ["a", "c in shadow", "d"]
    serving(processes, task(tmp_path, "e"))
    assert pipelines(processes) == ["a", "d", "e"]


def test_a_task_in_shadow_ends_no_process_of_what_is_sent_and_waits_for_its_memory(processes, machine, tmp_path):
    machine["mib"] = 2500.0
    sent, tried, other = task(tmp_path, "a"), *(replace(task(tmp_path, name), in_shadow=True) for name in "bc")
    serving(processes, sent)
    with pytest.raises(MemoryTaken):
        processes._begin("cpu", tried)
    assert pipelines(processes) == ["a"]
    machine["mib"] = 3500.0
    serving(processes, tried)
    serving(processes, other)
    assert pipelines(processes) == ["a", "c in shadow"], "of those in shadow the one that was used last stays"


@pytest.mark.parametrize("is_loaded", [True, False], ids=["beside the champion", "alone"])
def test_a_candidate_without_memory_fails_only_where_nothing_else_has_it(processes, tmp_path, monkeypatch, is_loaded):
    def refused(_worker: ModelProcess, job: Task, _wanted: object) -> None:
        raise AdmissionError(f"memory: it is alone: {job.alone}")

    if is_loaded:
        serving(processes, task(tmp_path, "a"))
    monkeypatch.setattr(ModelProcess, "run", refused)
    expected = (MemoryTaken, "waits for what other") if is_loaded else (AdmissionError, "it is alone: True")
    with pytest.raises(expected[0], match=expected[1]):
        processes.run("cpu", replace(task(tmp_path, "b"), in_shadow=True), wanted)
    assert ("a" in pipelines(processes)) is is_loaded


def test_other_options_or_weights_end_the_process_and_begin_another(processes, tmp_path):
    first = serving(processes, task(tmp_path, "a"))
    assert serving(processes, task(tmp_path, "a")) is first
    assert serving(processes, task(tmp_path, "a", seconds=1)) is not first
    assert pipelines(processes) == ["a"]
    with pytest.raises(TaskAborted):
        first.run(task(tmp_path, "a"), wanted)


def test_what_is_loaded_is_defined_by_factory_options_and_the_files_of_the_model(tmp_path):
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "weights"
    weights.write_bytes(b"old")
    table = PipelineTable(factory="a:b", weights=weights)
    known = definition_of({"x": table})
    assert definition_of({"x": table.model_copy(update={"title": "Other"})}) == known
    assert definition_of({"x": table.model_copy(update={"factory": "a:c"})}) != known
    assert definition_of({"y": table}) != known
    in_folder = definition_of({"x": table.model_copy(update={"weights": weights.parent})})
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").replace(weights)
    assert definition_of({"x": table}) != known
    assert definition_of({"x": table.model_copy(update={"weights": weights.parent})}) != in_folder


@pytest.mark.usefixtures("machine")
def test_the_process_that_was_not_used_for_the_longest_time_makes_room(processes, tmp_path):
    a, b, c = (task(tmp_path, name) for name in "abc")
    first = [serving(processes, job) for job in (a, b, a)]
    serving(processes, c)
    assert pipelines(processes) == ["a", "c"]
    assert serving(processes, a) is first[0]


def test_a_process_that_runs_a_task_makes_no_room(processes, machine, tmp_path):
    """Two devices share the memory of the host."""
    processes._begin("cpu", task(tmp_path, "a"))
    machine["mib"] = 0.0
    processes._begin("cuda:0", task(tmp_path, "b"))
    assert pipelines(processes) == ["a", "b"]


@pytest.mark.usefixtures("machine")
def test_the_memory_that_a_pipeline_took_before_counts_when_its_process_starts(processes, tmp_path):
    for name in "ab":
        serving(processes, task(tmp_path, name))
    seen = MemoryPeak(device="cpu", voxels=1024, host_mib=2500.0, device_mib=None)
    serving(processes, replace(task(tmp_path, "c"), seen=(seen,)))
    assert pipelines(processes) == ["c"]


@pytest.mark.usefixtures("machine")
def test_loading_in_advance_stops_when_memory_is_short_and_ends_nothing(processes, tmp_path):
    for name in "ab":
        serving(processes, replace(task(tmp_path, name), load_only=True))
    with pytest.raises(AdmissionError, match="it is loaded when a job needs it"):
        processes.run("cpu", replace(task(tmp_path, "c"), load_only=True), wanted)
    assert pipelines(processes) == ["a", "b"]


@pytest.mark.thorough
def test_a_job_gets_the_memory_of_idle_models_before_it_is_refused(processes, machine, tmp_path):
    machine["mib"] = 1e6
    for name in "ab":
        serving(processes, task(tmp_path, name))
    seen = MemoryPeak(device="cpu", voxels=1024, host_mib=1e9, device_mib=None)
    other_device = replace(seen, device="cuda:0")
    serving(processes, replace(task(tmp_path, "c"), seen=(other_device,)))
    assert pipelines(processes) == ["a", "b", "c"], "what another device took does not count"
    with pytest.raises(AdmissionError, match="memory: pipeline c will take about 1000000000 MiB"):
        processes.run("cpu", replace(task(tmp_path, "c"), seen=(seen,)), wanted)
    assert pipelines(processes) == ["c"]


def test_compiled_code_of_models_that_are_not_configured_any_more_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHES[0], str(tmp_path))
    tables = {
        "one": PipelineTable(factory="job_pipelines:create"),
        "two": PipelineTable(factory="job_pipelines:create", trust_group="a"),
        "three": PipelineTable(factory="job_pipelines:create", trust_group="a"),
    }
    used = {definition_of({"one": tables["one"]}), definition_of({name: tables[name] for name in ("two", "three")})}
    names = {"removed", "fresh", *(definition[:16] for definition in used)}
    for name in names:
        (tmp_path / "models" / name / "inner").mkdir(parents=True)
        (tmp_path / "models" / name / "inner" / "code").touch()
        if name != "fresh":
            os.utime(tmp_path / "models" / name, (1.0, 1.0))
    ModelProcesses(1, 240.0, tmp_path / "trays", tables).close()
    assert {path.name for path in (tmp_path / "models").iterdir()} == names - {"removed"}

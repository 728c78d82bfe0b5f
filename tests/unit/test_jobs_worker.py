"""The child process that runs pipelines: what it returns, and that nothing a pipeline does can hurt the parent."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dicom_files import mr_series
from notes import NOTES
from process_marks import alive
from worker_tasks import task, wanted

from node.config import Devices, PipelineTable
from node.errors import ConfigError, InputError, NotFoundError, PipelineError, PlatformError, WeightsError
from node.inference import devices, handover, model_process
from node.inference.child_output import receive_reply
from node.inference.devices import device_names, thread_count
from node.inference.model_process import ModelProcess, TaskAborted
from node.inference.plugins import factory_of, installed, load_pipeline, table_of
from node.inference.run_limit import RunLimit
from node.inference.task import Reply


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    """One worker for all: what ends its child must not hurt the next test."""
    worker = ModelProcess("cpu", 1, 240.0, tmp_path_factory.mktemp("trays"), cache=NOTES)
    yield worker
    worker.close()


def test_findings_come_back_through_the_handover(shared: ModelProcess, tmp_path: Path) -> None:
    reply = shared.run(task(tmp_path), wanted)
    assert (reply.outcome, reply.reason) == ("findings", "")
    assert {"load", "read", "run"} <= reply.timings.keys()
    assert 10 < reply.peak_memory_mib["host"] < 4096
    left = handover.load(tmp_path / "out", 4 * 16 * 16)
    assert left.findings.lesions[0].segment.mask.array.sum() == 2 * 4 * 4
    assert (left.algorithm.name, left.algorithm.version, left.device) == ("Scripted", "1.2", "cpu")


@pytest.mark.parametrize(("does", "outcome"), [("none", "no findings"), ("derived", "derived")])
def test_outcome_follows_from_what_was_found(shared: ModelProcess, tmp_path: Path, does: str, outcome: str) -> None:
    assert shared.run(task(tmp_path, does=does), wanted).outcome == outcome


@pytest.mark.thorough
def test_workers_of_a_data_loader_return_tensors(shared: ModelProcess, tmp_path: Path) -> None:
    assert shared.run(task(tmp_path, does="loader"), wanted).outcome == "findings"


def test_unsuitable_is_an_outcome_with_its_reason_and_algorithm(shared: ModelProcess, tmp_path: Path) -> None:
    reply = shared.run(task(tmp_path, does="unsuitable"), wanted)
    assert (reply.outcome, reply.reason) == ("not applicable", "the lungs are not in the picture")
    assert handover.load(tmp_path / "out", 4 * 16 * 16).algorithm.version == "1.2"


def test_unmet_needs_are_found_before_the_pipeline_runs(shared: ModelProcess, tmp_path: Path, notes: Path) -> None:
    reply = shared.run(task(tmp_path, mr_series(n=3, size=16), log=str(notes / "log")), wanted)
    assert (reply.outcome, reply.reason) == ("not applicable", "Modality is MR, needed is CT")
    assert not (notes / "log").exists()


def test_model_stays_loaded_between_jobs(shared: ModelProcess, tmp_path: Path, notes: Path) -> None:
    job = task(tmp_path, log=str(notes / "log"))
    shared.run(job, wanted)
    assert shared.run(job, wanted).timings["load"] < 1.0
    first, second = (notes / "log").read_text().split()
    assert first == second


def test_output_of_a_pipeline_goes_to_the_log(
    shared: ModelProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "node")
    shared.run(task(tmp_path, does="print"), wanted)
    deadline = time.monotonic() + 60
    while "cpu: from a library" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "cpu: from python" in caplog.text
    assert "cpu: from a library" in caplog.text
    assert "from python" not in "".join(capfd.readouterr())


def test_a_reply_to_another_task_is_an_error(
    shared: ModelProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*arguments: Any) -> Reply:
        reply = receive_reply(*arguments)
        return replace(reply, task=reply.task - 1)

    monkeypatch.setattr(model_process, "receive_reply", swapped)
    with pytest.raises(PipelineError, match="its process replied to another task and was killed"):
        shared.run(task(tmp_path), wanted)
    assert not list(shared._sandbox_folders.iterdir())


@pytest.mark.thorough
def test_exception_is_a_failure_that_may_be_retried_in_a_new_child(tmp_path: Path, notes: Path) -> None:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
    failing = task(tmp_path, does="raise", log=str(notes / "log"), once=str(notes / "once"))
    with pytest.raises(PipelineError, match="'scripted' broke: RuntimeError: the network diverged") as caught:
        worker.run(failing, wanted)
    assert not caught.value.permanent
    assert worker.run(failing, wanted).outcome == "findings"
    worker.close()
    first, second = (notes / "log").read_text().split()
    assert first != second


def test_a_model_that_fails_does_not_unload_the_others(shared: ModelProcess, tmp_path: Path, notes: Path) -> None:
    """Pipelines of one trust group share a process."""
    other = task(tmp_path / "other", log=str(notes / "other"))
    failing = task(
        tmp_path, does="raise", log=str(notes / "log"), once=str(notes / "once"), births=str(notes / "births")
    )
    shared.run(other, wanted)
    with pytest.raises(PipelineError, match="the network diverged"):
        shared.run(failing, wanted)
    assert shared.run(failing, wanted).outcome == "findings"
    assert shared.run(other, wanted).timings["load"] < 1.0
    assert len({*(notes / "other").read_text().split(), *(notes / "log").read_text().split()}) == 1, "one process"
    assert len((notes / "births").read_text().split()) == 2, "what failed was loaded again"


def test_a_model_that_cannot_be_loaded_does_not_unload_the_others(
    shared: ModelProcess, tmp_path: Path, notes: Path
) -> None:
    other = task(tmp_path, births=str(notes / "births"))
    shared.run(other, wanted)
    for broken in (task(tmp_path, weights=tmp_path / "none"), task(tmp_path, does="jump")):
        with pytest.raises((WeightsError, ConfigError)):
            shared.run(broken, wanted)
    shared.run(other, wanted)
    assert len((notes / "births").read_text().split()) == 1


def test_images_that_cannot_be_read_unload_no_model(shared: ModelProcess, tmp_path: Path, notes: Path) -> None:
    good = task(tmp_path, births=str(notes / "births"))
    shared.run(good, wanted)
    broken = replace(good, paths=(*good.paths, tmp_path / "broken"))
    (tmp_path / "broken").write_bytes(b"no DICOM")
    with pytest.raises(InputError):
        shared.run(broken, wanted)
    shared.run(good, wanted)
    assert len((notes / "births").read_text().split()) == 1


@pytest.mark.rotating
@pytest.mark.thorough
def test_compiled_code_is_there_for_the_next_process(tmp_path: Path) -> None:
    compiled = []
    for _ in range(2):
        worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
        assert worker.run(task(tmp_path, does="compile"), wanted).outcome == "findings"
        worker.close()
        compiled.append({path: path.stat().st_mtime_ns for path in NOTES.rglob("*.so")})
    assert compiled[0]
    assert compiled[0] == compiled[1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("does", "reason"), [("segv", "killed by SIGSEGV"), ("exit", "ended with status 3")], ids=["segv", "exit"]
)
def test_death_of_the_child_is_a_failure_with_its_reason(
    shared: ModelProcess, tmp_path: Path, does: str, reason: str
) -> None:
    with pytest.raises(PipelineError, match=reason) as caught:
        shared.run(task(tmp_path, does=does), wanted)
    assert not caught.value.permanent


@pytest.mark.thorough
def test_killed_child_is_explained_by_lack_of_memory(shared: ModelProcess, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"killed by SIGKILL, most often by the kernel for lack of memory"):
        shared.run(task(tmp_path, does="die before rename"), wanted)
    assert not (tmp_path / "out" / "findings.npz").exists()


@pytest.mark.thorough
def test_pipeline_that_runs_too_long_is_killed(tmp_path: Path, notes: Path) -> None:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
    worker.run(replace(task(tmp_path), load_only=True), wanted)
    worker._limit = RunLimit("cpu", 1.0, None)
    started = time.monotonic()
    try:
        with pytest.raises(PipelineError, match=r"longer than \[jobs\] run_timeout_seconds = 1 and was killed"):
            worker.run(task(tmp_path, does="hang", log=str(notes / "log")), wanted)
    finally:
        worker.close()
    assert 1.0 < time.monotonic() - started < 120.0
    assert not alive((notes / "log").read_text().strip())


def test_pipeline_of_a_cancelled_job_is_killed(shared: ModelProcess, tmp_path: Path, notes: Path) -> None:
    log = notes / "log"
    with pytest.raises(TaskAborted):
        shared.run(task(tmp_path, does="hang", log=str(log)), lambda: not log.exists())
    assert not alive(log.read_text().strip())


@pytest.mark.thorough
def test_closing_interrupts_a_running_pipeline(tmp_path: Path, notes: Path) -> None:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
    log = notes / "log"
    raised: list[BaseException] = []

    def run() -> None:
        try:
            worker.run(task(tmp_path, does="hang", log=str(log)), wanted)
        except TaskAborted as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not (log.exists() and log.read_text()):
        time.sleep(0.05)
    worker.close()
    thread.join(10)
    assert raised
    assert not alive(log.read_text().strip())
    with pytest.raises(TaskAborted):
        worker.run(task(tmp_path), wanted)


@pytest.mark.thorough
def test_child_dies_with_its_parent(tmp_path: Path, notes: Path) -> None:
    """A parent that is killed cannot clean up: the kernel must."""
    log = notes / "log"
    job = task(tmp_path, does="hang", log=str(log))
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path, PosixPath\n"
        "from node.config import PipelineTable\n"
        "from node.inference.task import PriorFiles, ReturnedFiles, Task\n"
        "from node.inference.model_process import ModelProcess\n"
        "if __name__ == '__main__':\n"
        f"    worker = ModelProcess('cpu', 1, 240.0, Path({str(tmp_path / 'trays')!r}), cache=Path({str(NOTES)!r}))\n"
        f"    worker.run({job!r}, lambda: True)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")])
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text()):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = log.read_text().strip()
    assert alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.thorough
def test_wrong_options_and_weights_are_permanent(shared: ModelProcess, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[pipelines.scripted\].*options.does = 'jump' is unknown; use") as caught:
        shared.run(task(tmp_path, does="jump"), wanted)
    assert caught.value.permanent
    with pytest.raises(WeightsError) as refused:
        shared.run(task(tmp_path, weights=tmp_path / "none"), wanted)
    assert refused.value.permanent


@pytest.mark.parametrize(
    ("name", "factory", "message"),
    [
        ("nodul", "", r"'nodul' is not installed \(did you mean 'nodule'\?\)"),
        ("x", "job_pipelines", "names no factory; write it as module:factory"),
        ("x", "no_such_module:create", "no module 'no_such_module'; install"),
        ("x", "job_pipelines:creat", r"no 'creat' \(did you mean 'create'\?\)"),
    ],
)
def test_pipeline_that_is_not_there_is_named_with_a_suggestion(name: str, factory: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        factory_of(name, factory)


def test_pipeline_whose_own_imports_fail_is_a_platform_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_missing_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlatformError, match="a_missing_library"):
        factory_of("x", "needs_more:create")


@pytest.mark.thorough
def test_built_in_pipelines_are_listed_without_importing_them() -> None:
    code = (
        "import sys; from node.inference.plugins import installed; print(*installed());"
        "sys.exit(any(name.startswith(('torch', 'pipelines')) for name in sys.modules))"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"brain", "denoise", "nodule", "tumor"} <= set(listed)
    assert list(installed()) == listed


def test_pipeline_missing_in_the_configuration_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"\[pipelines.tumour\] does not exist \(did you mean 'tumor'\?\)"):
        table_of("tumour", {"tumor": PipelineTable()})


def test_factory_with_the_wrong_signature_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_pipelines.create", lambda: None)
    with pytest.raises(ConfigError, match="unexpected keyword argument"):
        load_pipeline("x", PipelineTable(factory="job_pipelines:create"), "cpu")


@pytest.mark.thorough
@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cu130"])
def test_devices_are_spelt_out(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_names(Devices(use=("cuda:1", "cpu"))) == ("cuda:1", "cpu")
    monkeypatch.setattr(devices, "version", lambda _name: build)
    names = device_names(Devices())
    assert names == ("cpu",) or all(name.startswith("cuda:") for name in names)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PlatformError, match="torch cannot be imported"):
        device_names(Devices())
    monkeypatch.setattr(devices, "version", lambda _name: "2.13.0+cpu")
    assert device_names(Devices()) == ("cpu",), "a build for CPUs need not be asked"


def test_threads_are_those_that_are_configured_or_all_cores() -> None:
    assert thread_count(Devices(cpu_threads=3)) == 3
    assert thread_count(Devices()) == len(os.sched_getaffinity(0))

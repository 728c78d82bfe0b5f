"""What a hostile model prints, replies and leaves running harms neither its parent nor the next job."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from notes import NOTES
from process_marks import alive
from worker_tasks import task, wanted

from node.errors import PipelineError
from node.inference import disk_limit
from node.inference.model_process import ModelProcess, TaskAborted
from node.inference.run_limit import RunLimit
from node.inference.task import LONGEST_REASON, Task


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    """One worker for all: what ends its child must not hurt the next test."""
    worker = ModelProcess("cpu", 1, 240.0, tmp_path_factory.mktemp("trays"), cache=NOTES)
    yield worker
    worker.close()


def test_output_of_a_pipeline_is_bounded(
    shared: ModelProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """300 MiB without a line break filled the parent; so many lines would fill the disk."""
    caplog.set_level(logging.INFO, "node")
    peak = _peak_mib()
    shared.run(task(tmp_path, does="print without end"), wanted)
    shared.run(task(tmp_path, does="print too much"), wanted)
    shared.run(task(tmp_path, does="print"), wanted)
    deadline = time.monotonic() + 20
    while "cpu: from a library" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "bytes more)" in caplog.text
    assert "cpu: it printed 1 MiB; the rest of this task is not logged" in caplog.text
    assert "cpu: from a library" in caplog.text, "the next job is logged again"
    assert len(caplog.text) < 4 << 20
    assert _peak_mib() - peak < 100


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("reply too much", "sent a reply of more than 1 MiB"),
        ("reply nonsense", "sent no reply that can be read"),
        ("reply half", r"run_timeout_seconds = 2 and was killed"),
    ],
)
def test_a_reply_that_is_none_fails_the_job_in_bounded_memory_and_time(tmp_path: Path, does: str, message: str) -> None:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
    worker.run(replace(task(tmp_path), load_only=True), wanted)
    if does == "reply half":
        worker._limit = RunLimit("cpu", 2.0, None)
    peak = _peak_mib()
    try:
        with pytest.raises(PipelineError, match=message):
            worker.run(task(tmp_path, does=does), wanted)
    finally:
        worker.close()
    assert _peak_mib() - peak < 100


def test_a_process_that_reads_no_tasks_is_killed_in_time_and_delays_nobody(tmp_path: Path) -> None:
    """A task that did not fit into the pipe blocked whoever sent it, and with it the end of the process."""
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
    worker.run(replace(task(tmp_path), load_only=True), wanted)
    worker._limit = RunLimit("cpu", 4.0, None)
    large = replace(task(tmp_path, note="x" * (1 << 20)), job_id="next")
    failures: list[PipelineError] = []

    def run(job: Task) -> None:
        try:
            worker.run(job, wanted)
        except PipelineError as error:
            failures.append(error)

    running = threading.Thread(target=run, args=(task(tmp_path, does="stop reading"),))
    preparing = threading.Thread(target=worker.prepare, args=(large,))
    started = time.monotonic()
    try:
        running.start()
        time.sleep(1)
        preparing.start()
        running.join(40)
        preparing.join(40)
        assert time.monotonic() - started < 40
        assert ["run_timeout_seconds = 4 and was killed" in str(error) for error in failures] == [True]
    finally:
        worker.close()


def test_a_long_reason_is_cut(shared: ModelProcess, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="'scripted' broke: RuntimeError: xxx") as caught:
        shared.run(task(tmp_path, does="long reason"), wanted)
    assert len(str(caught.value)) == LONGEST_REASON


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("does", ["daemon", "daemon and hang"])
def test_what_a_pipeline_leaves_running_ends_with_it(tmp_path: Path, notes: Path, does: str) -> None:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays", cache=NOTES)
    log = notes / "daemons"
    try:
        with pytest.raises((PipelineError, TaskAborted), match=r"status 3|not wanted"):
            worker.run(
                task(tmp_path, does=does, daemons=str(log)),
                lambda: does == "daemon" or not (log.exists() and log.read_text()),
            )
        assert not any(alive(line) for line in log.read_text().split())
    finally:
        worker.close()


def test_limits_of_a_pipeline_hold_without_a_service_manager(shared: ModelProcess, tmp_path: Path) -> None:
    limits = json.loads(shared.run(task(tmp_path, does="limits"), wanted).reason)
    assert limits["RLIMIT_CORE"] == [0, 0]
    assert 0 < limits["RLIMIT_NOFILE"][1] <= 8192
    assert limits["RLIMIT_FSIZE"] == [16 << 30, 16 << 30]
    ours = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    assert ours == resource.RLIM_INFINITY or 0 < limits["RLIMIT_NPROC"][1] < ours


def test_the_child_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """Its interpreter starts with ``-c``, which puts the working directory first."""
    (tmp_path / "struct.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nraise ImportError")
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path, PosixPath\n"
        "from node.config import PipelineTable\n"
        "from node.inference.task import PriorFiles, ReturnedFiles, Task\n"
        "from node.inference.model_process import ModelProcess\n"
        "if __name__ == '__main__':\n"
        f"    worker = ModelProcess('cpu', 1, 240.0, Path({str(tmp_path / 'trays')!r}))\n"
        f"    worker.run({replace(task(tmp_path), load_only=True)!r}, lambda: True)\n"
        "    worker.close()\n"
        "    import os\n"
        "    assert 'PYTHONSAFEPATH' not in os.environ\n"  # what else this process starts is not affected
    )
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "parent.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "scripts" / "parent.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (tmp_path / "imported").exists()
    assert done.returncode == 0, done.stderr


def test_a_model_that_fills_its_folder_ends_and_nothing_of_it_stays(
    shared: ModelProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_limit, "MOST_BYTES", 32 << 20)
    with pytest.raises(PipelineError, match="wrote more than 0 GiB and was killed"):
        shared.run(task(tmp_path, does="fill the disk", mib=64), wanted)
    assert not list(shared._sandbox_folders.rglob("*"))
    assert shared.run(task(tmp_path, does="print"), wanted)

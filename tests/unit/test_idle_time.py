"""What computes in idle time pauses with all that it has started while somebody else computes, and its limits wait."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from node.config import PipelineTable
from node.errors import PipelineError, TimeLimitError
from node.inference import run_limit
from node.inference.run_limit import RunLimit
from node.inference.task import Task
from node.jobs.time_limit import call_within
from node.process import idle_time, pause
from node.process.idle_time import IdleTime


@pytest.fixture
def family() -> Iterator[psutil.Process]:
    """A process with a child and a grandchild that compute nothing."""
    with subprocess.Popen(["/bin/sh", "-c", "/bin/sh -c 'sleep 600 & wait' & echo begun; wait"], stdout=-1) as first:
        assert first.stdout is not None
        first.stdout.readline()
        process = psutil.Process(first.pid)
        while len(process.children(recursive=True)) < 2:
            pass
        yield process
        for member in (*process.children(recursive=True), process):
            member.kill()


def wait_until_stopped(family: psutil.Process, expected: list[bool]) -> None:
    """Of the first and of those that it has started: each stops as soon as the kernel lets it run the next time."""
    deadline = time.monotonic() + 60.0
    while [
        member.status() == psutil.STATUS_STOPPED for member in (family, *family.children(recursive=True))
    ] != expected:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_everything_that_a_user_of_idle_time_has_started_pauses_while_it_is_taken(family: psutil.Process) -> None:
    """The first process does not: it ends the others when it is told to."""
    idle = IdleTime()
    with idle.used_by(family.pid):
        wait_until_stopped(family, [False, False, False])
        with idle.taken():
            wait_until_stopped(family, [False, True, True])
            with idle.taken():
                pass
            wait_until_stopped(family, [False, True, True])
        wait_until_stopped(family, [False, False, False])
    with idle.taken():
        wait_until_stopped(family, [False, False, False])


def test_whoever_begins_to_use_it_while_it_is_taken_pauses_at_once(family: psutil.Process) -> None:
    idle = IdleTime()
    with idle.taken():
        with idle.used_by(family.pid):
            wait_until_stopped(family, [False, True, True])
            family.children()[0].resume()
            idle.look()
            wait_until_stopped(family, [False, True, True])
        wait_until_stopped(family, [False, False, False])


_CHAIN = """
import os, time
for _ in range(60):
    if os.fork():
        time.sleep(600)
print("begun", flush=True)
time.sleep(600)
"""


def test_a_long_chain_of_processes_pauses_as_well_and_fails_nobody_else() -> None:
    """A model that starts more processes, each by the one before, than Python nests calls."""
    idle = IdleTime()
    command = [sys.executable, "-S", "-E", "-c", _CHAIN]
    with subprocess.Popen(command, stdout=-1, start_new_session=True) as first:
        try:
            assert first.stdout is not None
            first.stdout.readline()
            before = sys.getrecursionlimit()
            sys.setrecursionlimit(len(inspect.stack()) + 50)
            try:
                with idle.used_by(first.pid), idle.taken():
                    sys.setrecursionlimit(before)
                    wait_until_stopped(psutil.Process(first.pid), [False, *[True] * 60])
            finally:
                sys.setrecursionlimit(before)
            assert not idle.is_taken
        finally:
            os.killpg(first.pid, signal.SIGKILL)


def test_processes_that_replace_one_another_for_ever_delay_nobody_for_ever(
    family: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = iter(range(1 << 30, (1 << 30) + 1000))  # more than there can be
    monkeypatch.setattr(pause, "_descendants", lambda _pid: [next(searches)])
    pause.pause(family.pid, pause.started_at(family.pid))
    assert next(searches) < (1 << 30) + 1000


def test_a_candidate_looks_more_often_whether_it_has_to_yield_a_gpu() -> None:
    gpu, cpu, sent = (
        RunLimit(device, 60.0, idle) for device, idle in (("cuda:0", IdleTime()), ("cpu", IdleTime()), ("cuda:0", None))
    )
    assert gpu.look_seconds < cpu.look_seconds == sent.look_seconds


def test_a_later_process_with_the_same_number_is_left_alone(family: psutil.Process) -> None:
    pause.pause(family.pid, pause.started_at(family.pid) + 1.0)
    wait_until_stopped(family, [False, False, False])
    assert pause.started_at(1 << 30) == 0.0
    pause.pause(1 << 30, 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Passes time for idle time and for limits of runs."""
    at = [0.0]

    def now() -> float:
        return at[0]

    def passes(seconds: float) -> None:
        at[0] += seconds

    for module in (idle_time, run_limit):
        monkeypatch.setattr(module, "time", type("time", (), {"monotonic": now}))
    return passes


def test_the_limit_of_a_run_in_idle_time_does_not_count_its_pauses(clock: Callable[[float], None]) -> None:
    task = Task(job_id="j", pipeline="p", table=PipelineTable(factory="a:b"), paths=(), folder=Path("none"))
    idle = IdleTime()
    limit = RunLimit("cpu", 60.0, idle)
    deadline = limit.deadline()
    with idle.taken():
        clock(1e6)
        limit.look(task, deadline)
    assert idle.taken_seconds() == 1e6
    clock(599.0)
    limit.look(task, deadline)
    clock(2.0)
    with pytest.raises(PipelineError, match=r"ran longer than 10 times \[jobs\] run_timeout_seconds = 60"):
        limit.look(task, deadline)


def test_the_limit_of_a_stage_does_not_count_the_pauses_of_what_is_in_shadow() -> None:
    ends = threading.Event()
    paused = [0.0]

    def seconds() -> float:
        """Longer at each look, as while somebody else computes, and then no longer."""
        paused[0] += 1.0
        if paused[0] > 3.0:
            ends.set()
        return paused[0]

    assert call_within(0.01, "it", lambda: ends.wait(60.0), seconds)
    with pytest.raises(TimeLimitError):
        call_within(0.01, "it", lambda: threading.Event().wait(1.0))

"""Processes that are copies of the one that starts them."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

START = """
import os, signal, sys, time
from node.process.child_process import ChildProcess
signal.signal(signal.SIGTERM, lambda *_: print("the handler of the parent", flush=True))
process = ChildProcess.fork("ainode tester")
if process is None:
    {child}
"""


def parent(child: str, then: str) -> str:
    code = START.format(child=child) + then
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("child", "status"), [("sys.exit(3)", "3"), ("os.abort()", "-6"), ("sys.exit()", "0")])
def test_its_end_has_a_status(child: str, status: str):
    assert parent(child, "print(process.wait(), process.poll(), process.poll())") == f"True {status} {status}\n"


def test_it_is_waited_for_as_long_as_asked_and_no_longer():
    then = (
        "print(process.wait(0.2), process.poll()); process.end(signal.SIGKILL); print(process.wait(), process.poll())"
    )
    assert parent("time.sleep(600)", then) == "False None\nTrue -9\n"


def test_a_signal_at_its_start_ends_it_and_calls_no_handler_of_the_parent():
    assert (
        parent("time.sleep(600)", "process.end(signal.SIGTERM); print(process.wait(30), process.poll())")
        == "True -15\n"
    )


def test_one_that_has_ended_gets_no_signal():
    assert parent("sys.exit(0)", "process.wait(); process.end(signal.SIGKILL); print(process.poll())") == "0\n"


def test_it_ends_with_its_parent_and_has_its_name():
    then = "print(process.pid, flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", START.format(child="time.sleep(600)") + then], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        forked = psutil.Process(int(started.stdout.readline()))
        while forked.name() != "ainode tester":
            assert forked.is_running()
        started.kill()
        forked.wait(30)

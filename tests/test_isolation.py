"""A process without network: what runs other people's models can call nobody, and neither can what it starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_jobs_worker import task, wanted

from node.errors import PipelineError
from node.jobs.worker import Worker


def inside(code: str) -> str:
    """What a process prints that has cut itself off before it runs ``code``."""
    program = f"from node.isolation import cut_off_network\ncut_off_network()\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TRY = """
import socket
def works(family, kind):
    try:
        socket.socket(family, kind).close()
    except PermissionError:
        return False
    return True
"""


def test_a_pipeline_that_calls_home_fails_and_nobody_is_called(tmp_path: Path) -> None:
    worker = Worker("cpu", 1, 60.0)
    with socket.create_server(("127.0.0.1", 0)) as home:
        home.settimeout(0.2)
        with pytest.raises(PipelineError, match="Permission denied"):
            worker.run(task(tmp_path, does="call home", port=home.getsockname()[1]), wanted)
        with pytest.raises(TimeoutError):
            home.accept()
    worker.close()


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"])
def test_no_socket_of_a_network_can_be_made(family: str) -> None:
    assert inside(f"{TRY}\nprint(works(socket.{family}, socket.SOCK_DGRAM))") == "False"


def test_what_processes_of_one_machine_need_still_works() -> None:
    assert inside(f"{TRY}\nsocket.socketpair()\nprint(works(socket.AF_UNIX, socket.SOCK_STREAM))") == "True"


def test_a_process_that_it_starts_has_no_network_either() -> None:
    started = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {TRY + 'print(works(2, 1))'!r}])"
    assert inside(started) == "False"


def test_the_ways_round_are_shut() -> None:
    """io_uring_setup, ptrace and pidfd_getfd by their numbers on x86-64 and aarch64."""
    calls = "{'x86_64': (425, 101, 438), 'aarch64': (425, 117, 438)}[platform.machine()]"
    code = f"""
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
for number in {calls}:
    assert libc.syscall(number, 0, 0, 0, 0) == -1
    print(os.strerror(ctypes.get_errno()))
"""
    assert inside(code).splitlines() == ["Permission denied"] * 3

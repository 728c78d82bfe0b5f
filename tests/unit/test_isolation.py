"""What runs other people's models can call nobody and sees no file but its own, and neither can what it starts."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import prying
import pytest
from worker_tasks import task, wanted

from node.errors import PipelineError
from node.inference.model_process import ModelProcess
from node.inference.sandbox_folder import SandboxFolder
from node.isolation import abi, programs
from node.isolation.allowed_system_calls import ABSENT, ALLOWED_ONLY, LATEST, REFUSED_WHEN, allowed_calls
from node.spool.remove_tree import sweep_members


def inside(code: str) -> str:
    """What a process prints that has cut itself off before it runs ``code``."""
    program = f"from node.isolation import refuse_calls\nrefuse_calls()\n{code}"
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


@pytest.mark.thorough
def test_a_pipeline_that_calls_home_fails_and_nobody_is_called(tmp_path: Path) -> None:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays")
    with socket.create_server(("127.0.0.1", 0)) as home:
        home.settimeout(0.2)
        with pytest.raises(PipelineError, match="Permission denied"):
            worker.run(task(tmp_path, does="call home", port=home.getsockname()[1]), wanted)
        with pytest.raises(TimeoutError):
            home.accept()
    worker.close()


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"])
def test_no_socket_can_be_made(family: str) -> None:
    assert inside(f"{TRY}\nprint(works(socket.{family}, socket.SOCK_DGRAM))") == "False"


def test_what_processes_of_one_family_need_still_works() -> None:
    assert inside("import multiprocessing\nwith multiprocessing.Pool(1) as pool: print(pool.map(abs, [-1]))") == "[1]"
    assert inside("import multiprocessing\nmultiprocessing.Pipe()\nprint('made')") == "made"


def test_a_pair_of_datagram_sockets_cannot_be_made_for_they_reach_any_other() -> None:
    code = "import socket\ntry:\n    socket.socketpair(type=socket.SOCK_DGRAM)\nexcept PermissionError: print('no')"
    assert inside(code) == "no"


def test_a_process_that_it_starts_has_no_network_either() -> None:
    started = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {TRY + 'print(works(2, 1))'!r}])"
    assert inside(started) == "False"


def test_the_ways_round_are_shut() -> None:
    """io_uring_setup, ptrace, pidfd_getfd and connect by their numbers on x86-64 and aarch64."""
    calls = "{'x86_64': (425, 101, 438, 42), 'aarch64': (425, 117, 438, 203)}[platform.machine()]"
    code = f"""
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
for number in {calls}:
    assert libc.syscall(number, 0, 0, 0, 0) == -1
    print(os.strerror(ctypes.get_errno()))
"""
    assert inside(code).splitlines() == ["Permission denied"] * 4


@pytest.mark.thorough
@pytest.mark.skipif(abi() < 6, reason="this kernel has no Landlock of ABI 6")
def test_a_hostile_pipeline_reaches_nothing_of_the_node(tmp_path: Path) -> None:
    with prying.laid_out(tmp_path) as (storage, pry):
        worker = ModelProcess("cpu", 1, 240.0, storage / "trays")
        try:
            reply = worker.run(task(tmp_path, **pry), wanted)
        finally:
            worker.close()
        unconfined = prying.tried(tmp_path / "in", pry)
    tried = json.loads(reply.reason)
    assert {what for what, outcome in tried.items() if outcome == "done"} == prying.ALLOWED
    refused = {what for what, outcome in unconfined.items() if outcome not in ("done", "unknown here")}
    assert refused == set(), "the attempts are real ones"


def test_a_process_may_still_set_its_own_limits_priority_and_cores() -> None:
    code = """
import os, resource, threading
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.nice(0)
os.sched_setaffinity(0, os.sched_getaffinity(0))
thread = threading.Thread(target=print, args=("done",))
thread.start()
thread.join()
"""
    assert inside(code) == "done"


def test_the_priority_of_a_group_of_processes_cannot_be_set() -> None:
    """Nor that of a user: only the calling thread's own."""
    code = """
import os
os.setpgrp()
try: os.setpriority(os.PRIO_PGRP, 0, os.getpriority(os.PRIO_PROCESS, 0))
except PermissionError: print("no")
"""
    assert inside(code) == "no"


HEADERS = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h")]


@pytest.mark.parametrize("column", [0, 1], ids=["x86_64", "aarch64"])
def test_numbers_of_calls_are_those_of_the_kernel(column: int) -> None:
    if not HEADERS[column].exists():
        pytest.skip("this machine has no kernel headers of this architecture")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[column].read_text()))
    rules = allowed_calls() | ABSENT
    rules |= {name: numbers for table in (ALLOWED_ONLY, REFUSED_WHEN) for name, (numbers, _) in table.items()}
    ours = {name: str(numbers[column]) for name, numbers in rules.items() if name in known}
    assert len(ours) > 200 - 35 * column
    assert ours == {name: known[name] for name in ours}
    assert all(rules[name][column] is None for name in ("fork", "open")) == (column == 1)
    assert max(numbers[column] or 0 for numbers in rules.values()) <= LATEST


HARMLESS_ANSWERS = {"Permission denied", "Function not implemented"}
"""Of a call that was not made: one that the kernel has looked at answers Bad address or Invalid argument."""


_KILL = {335, 336}
"""uretprobe and uprobe, on x86-64: a process that calls them itself is killed."""


def test_every_other_call_is_refused_also_one_of_a_later_kernel() -> None:
    """A list of what is refused leaves what a later kernel brings open."""
    column = ["x86_64", "aarch64"].index(os.uname().machine)
    rules = [
        *allowed_calls().values(),
        *(numbers for table in (ALLOWED_ONLY, REFUSED_WHEN) for numbers, _ in table.values()),
    ]
    others = sorted(set(range(600)) - _KILL - {numbers[column] for numbers in rules})
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for number in {others}:
    result = libc.syscall(number, -1, -1, -1, -1, -1, -1)
    print(number, os.strerror(ctypes.get_errno()) if result == -1 else "made", sep=": ")
"""
    answers = dict(line.split(": ") for line in inside(code).splitlines())
    assert len(answers) == len(others) > 300
    assert {number: answer for number, answer in answers.items() if answer not in HARMLESS_ANSWERS} == {}
    assert answers["599"] == "Function not implemented"


def test_no_call_reaches_another_process_of_the_same_user(tmp_path: Path) -> None:
    """One with the same capabilities, which protects root's processes from a model that has lost its own."""
    (tmp_path / "image").touch()
    code = f"""
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {str(Path(prying.__file__).parent)!r})
import prying, prying_calls
other = subprocess.Popen(["sleep", "60"])
for what, attempt in prying_calls.attempts(Path({str(tmp_path / "image")!r}), other.pid).items():
    outcome = prying._outcome(attempt)
    if outcome not in ("PermissionError", "unknown here"):
        print(what, outcome)
other.kill()
"""
    assert inside(code) == ""


@pytest.mark.thorough
@pytest.mark.skipif(abi() < 1, reason="this kernel has no Landlock")
def test_what_the_configuration_names_for_a_pipeline_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    (tmp_path / "labels").write_text("l")
    code = f"""
from pathlib import Path
from node.config import PipelineTable
from node.isolation import confine, programs
from node.inference.sandbox_folder import models
table = PipelineTable(weights=Path({str(tmp_path / "weights")!r}), options={{"labels": {str(tmp_path / "labels")!r}}})
assert confine((*programs(), *models([table]))) > 0
print((table.weights).read_text(), Path(table.options["labels"]).read_text())
import torch
try:
    table.weights.write_text("x")
except PermissionError:
    print("not written")
"""
    assert inside(code).splitlines() == ["w l", "not written"]


def test_a_tray_shows_the_files_of_its_jobs_alone(tmp_path: Path) -> None:
    job = task(tmp_path, does="none")
    sandbox_folder = SandboxFolder(tmp_path / "trays")
    other = SandboxFolder(tmp_path / "trays")
    assert len(list((tmp_path / "trays").iterdir())) == 2
    laid = sandbox_folder.link_task(job)
    assert sandbox_folder.link_task(job) == laid, "prepared, then run"
    assert [path.read_bytes() for path in laid.paths] == [path.read_bytes() for path in job.paths]
    assert all(path.samefile(source) for path, source in zip(laid.paths, job.paths, strict=True))
    sandbox_folder.clear(job)
    assert not laid.paths[0].exists()
    assert job.paths[0].exists()
    sandbox_folder.close()
    other.close()
    assert list((tmp_path / "trays").iterdir()) == []


def test_folders_of_any_depth_and_mode_are_swept(tmp_path: Path) -> None:
    """3,000 levels stopped the sweep: deeper than Python's stack, longer than PATH_MAX."""
    left = tmp_path / "trays" / "worker that was killed" / "tray" / "out"
    left.mkdir(parents=True)
    folder = os.open(left, os.O_RDONLY)
    for level in range(3000):
        os.close(os.open("file", os.O_CREAT, 0, dir_fd=folder))
        os.mkdir("deeper", dir_fd=folder)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
        if level % 1000 == 999:
            os.symlink(tmp_path, "link", dir_fd=folder)
            os.chmod("..", 0, dir_fd=folder)
    os.close(folder)
    (left / "deeper" / "beside" / "beside").mkdir(parents=True)
    (tmp_path / "kept").touch()
    sweep_members(tmp_path / "trays", ())
    assert (tmp_path / "kept").exists()
    assert list((tmp_path / "trays").iterdir()) == []


def test_trays_of_living_workers_stay_whether_or_not_their_locks_can_be_seen(tmp_path: Path) -> None:
    """Locks of folders do not reach from one machine to another over NFS: workers removed one another's trays."""
    trays = tmp_path / "trays"
    elsewhere = trays / "worker elsewhere" / "tray" / "in"
    elsewhere.mkdir(parents=True)
    here = SandboxFolder(trays / "worker here")
    sweep_members(trays, {"worker elsewhere"})
    assert elsewhere.is_dir()
    assert here.inside.is_dir(), "locked, though no member: ainode try"
    here.close()
    sweep_members(trays, ())
    assert list(trays.iterdir()) == []


def test_a_folder_in_the_place_of_the_handover_is_not_taken(tmp_path: Path) -> None:
    sandbox_folder = SandboxFolder(tmp_path / "trays")
    job = sandbox_folder.link_task(task(tmp_path, does="none"))
    (job.folder / "findings.npz" / "deeper").mkdir(parents=True)
    sandbox_folder.take(replace(job, folder=tmp_path / "work"))
    assert not (tmp_path / "work").exists()
    sandbox_folder.close()


def test_code_that_is_installed_in_place_can_be_read() -> None:
    code = """
from pathlib import Path
import node
from node.isolation import READ, programs
home = Path(node.__file__).parent
print(any(access == READ and home.is_relative_to(path) for path, access in programs()))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "True"


def test_of_a_folder_that_a_rule_gives_only_what_its_links_lead_to_has_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule costs computing in every process that is shut in; the standard library alone would be 280 of them."""
    library, linked = tmp_path / "python", tmp_path / "linked"
    for folder in (library, linked):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "module.py").touch()
    (library / "inner" / "site.py").symlink_to(linked / "inner" / "module.py")
    outside = tmp_path / "outside"
    outside.symlink_to(linked / "inner")
    monkeypatch.setattr(sys, "base_prefix", str(library))
    monkeypatch.setattr(sys, "path", [str(library / "inner"), str(outside)])
    rules = {path for path, _ in programs() if path.is_relative_to(tmp_path)}
    assert rules == {library, library / "inner", library / "inner" / "site.py", outside, outside / "module.py"}

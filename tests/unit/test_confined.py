"""Confined processes: what they compute comes back as plain data; no bound, crash or lie of theirs stops the parent."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import confined_functions as f
import psutil
import pytest
from process_marks import alive

from node.confined import Bounds, ConfinedProcess
from node.errors import IdentityError, InputError, InternalError, PlatformError
from node.isolation import abi
from node.process.idle_time import IdleTime

SMALL = Bounds(memory_mib=512, cpu_seconds=1, wall_seconds=120.0, reply_mib=1)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfinedProcess]:
    folder = tmp_path_factory.mktemp("confined")
    for name in ("images", "results", "ledger"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    reader = ConfinedProcess("reader", readable=[folder / "images"], writable=[folder / "results"], bounds=SMALL)
    yield reader
    reader.close()


@pytest.fixture
def folder(reader: ConfinedProcess) -> Path:
    return reader._rules[0][0].parent


def test_results_come_back_as_the_values_they_are(reader: ConfinedProcess) -> None:
    assert reader.call("series 1.2", f.values, 7) == f.values(7)


def test_one_that_computes_when_idle_has_a_lower_priority(tmp_path: Path) -> None:
    idle = ConfinedProcess("reader", readable=[tmp_path], bounds=SMALL, when_idle=IdleTime())
    try:
        idle.call("a", f.values, 7)
        first = psutil.Process(idle._child.process.pid)
        assert {process.nice() for process in (first, *first.children(recursive=True))} == {
            min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        }
    finally:
        idle.close()


def test_one_process_serves_many_calls(reader: ConfinedProcess) -> None:
    assert reader.call("a", f.process) == reader.call("b", f.process) != f.process()


def test_an_error_of_the_function_is_raised_and_the_process_goes_on(reader: ConfinedProcess) -> None:
    before = reader.call("a", f.process)
    with pytest.raises(IdentityError, match="PatientID: two of them"):
        reader.call("series 1.2", f.refuse)
    assert reader.call("a", f.process) == before


def test_a_fault_of_a_library_names_what_was_read(reader: ConfinedProcess) -> None:
    with pytest.raises(InternalError, match=r"series 1\.2: KeyError: 'no such thing'"):
        reader.call("series 1.2", f.break_off)


@pytest.mark.thorough
def test_a_process_that_decodes_nothing_loads_no_decoder() -> None:
    for decodes in (True, False):
        reader = ConfinedProcess("reader", readable=[], bounds=SMALL, decodes=decodes)
        assert bool(reader.call("a", f.decoders)) == decodes
        reader.close()


@pytest.mark.thorough
@pytest.mark.skipif(abi() == 0, reason="this kernel has no Landlock")
def test_only_the_given_folders_can_be_read_or_written(reader: ConfinedProcess, folder: Path) -> None:
    assert reader.call("a", f.text, folder / "images" / "file") == "images"
    assert reader.call("a", f.write, folder / "results" / "file") == len("written")
    for function, name in ((f.text, "ledger"), (f.write, "images")):
        with pytest.raises(InternalError, match=r"PermissionError|FileNotFoundError|Read-only"):
            reader.call("a", function, folder / name / "file")


def test_it_has_no_network(reader: ConfinedProcess) -> None:
    with pytest.raises(InternalError, match="PermissionError"):
        reader.call("a", f.connect, 104)


@pytest.mark.thorough
def test_too_much_computing_is_an_error_of_the_input_and_the_next_call_is_answered(reader: ConfinedProcess) -> None:
    with pytest.raises(InputError, match=r"series 1\.2: .* more than 1 s of computing"):
        reader.call("series 1.2", f.spin)
    assert reader.call("a", f.values, 1).number == 1


@pytest.mark.thorough
def test_too_much_memory_is_an_error_of_the_input_and_the_next_call_is_answered(reader: ConfinedProcess) -> None:
    with pytest.raises(InputError, match=r"series 1\.2: .* more than 512 MiB of memory"):
        reader.call("series 1.2", f.fill_memory)
    assert reader.call("a", f.values, 1).number == 1


def test_one_file_beyond_its_bound_hides_no_other_of_the_call(reader: ConfinedProcess) -> None:
    answers = reader.call("a", f.spin_on_one_of_three)
    assert answers == ["first read", "second: reading it took more than 0.3 s of computing", "third read"]
    answers = reader.call("a", f.fill_memory_on_one_of_three)
    assert [answer.partition(":")[0] for answer in answers] == ["first read", "second", "third read"]


@pytest.mark.thorough
def test_a_crash_is_an_error_of_the_input_and_the_next_call_is_answered(reader: ConfinedProcess) -> None:
    with pytest.raises(InputError, match=r"series 1\.2: .* SIGSEGV"):
        reader.call("series 1.2", f.crash)
    assert reader.call("a", f.values, 1).number == 1


@pytest.mark.thorough
def test_a_kill_from_outside_is_no_error_of_the_input(reader: ConfinedProcess) -> None:
    with pytest.raises(PlatformError, match=r"series 1\.2: .* SIGKILL"):
        reader.call("series 1.2", f.kill_oneself)
    assert reader.call("a", f.values, 1).number == 1


def test_a_process_that_holds_much_memory_is_replaced_after_its_call(reader: ConfinedProcess) -> None:
    before = reader.call("a", f.hold_memory, 256)
    assert reader.call("a", f.process) != before


def test_a_process_that_does_not_answer_is_killed() -> None:
    reader = ConfinedProcess("reader", readable=[], bounds=Bounds())
    reader.call("a", f.process)
    reader._bounds = Bounds(wall_seconds=1.0)  # once it has started, which may take long
    with pytest.raises(PlatformError, match=r"series 1\.2: the reader did not answer within 1 s"):
        reader.call("series 1.2", f.sleep)
    reader.close()


FORGED = {
    "type": b'=+["no number"]\n',
    "length": b"=+[1, 2]\n",
    "junk": b"junk\n",
    "error": b"!+[1]\n",
    "nesting": b"=+" + b"[" * 100000 + b"\n",
    "pickle": b"=+" + pickle.dumps(1) + b"\n",
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_reply_is_no_result(reader: ConfinedProcess, forged: bytes) -> None:
    with pytest.raises(PlatformError, match="sent no reply that can be read"):
        reader.call("series 1.2", f.reply_with, forged)
    reader.close()


@pytest.mark.thorough
def test_a_reply_without_end_is_cut_at_the_bound(reader: ConfinedProcess) -> None:
    with pytest.raises(PlatformError, match="sent a reply of more than 1 MiB"):
        reader.call("series 1.2", f.reply_without_end)
    assert reader.call("a", f.values, 1).number == 1


def wait_for_end(process: str) -> None:
    deadline = time.monotonic() + 60
    while alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_closing_ends_everything_that_it_started(reader: ConfinedProcess) -> None:
    daemon, own = reader.call("a", f.start_daemon), reader.call("a", f.process)
    assert alive(daemon)
    assert alive(own)
    reader.close()
    wait_for_end(own)
    wait_for_end(daemon)


OWNER = """
import sys, time
import confined_functions as f
from node.confined import ConfinedProcess
reader = ConfinedProcess("reader", readable=[])
print(reader.call("a", f.process), reader.call("a", f.start_daemon), flush=True)
time.sleep(3600)
"""


def test_it_ends_with_its_parent() -> None:
    folder = Path(f.__file__).parent
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, cwd=folder) as owner:
        assert owner.stdout is not None
        processes = owner.stdout.readline().decode().split()
        assert all(map(alive, processes))
        owner.send_signal(signal.SIGKILL)
    for process in processes:
        wait_for_end(process)

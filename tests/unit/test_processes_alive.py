"""A process that was killed is not counted as alive, and none outlives its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ledgers import open_copy

from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.members import Member, renew_beat
from node.operate.fleet import ALIVE_SECONDS
from node.operate.status import by_role
from node.process.presence import process_space


@pytest.mark.parametrize("supervisor", ["alive", "ended"])
def test_a_process_whose_supervisor_ended_before_it_could_ask_to_be_told_ends_itself(supervisor: str):
    number = os.getpid() if supervisor == "alive" else 2**22 - 1
    code = f"import signal; from node.process.children import die_with_parent as die; die(signal.SIGTERM, {number})"
    done = subprocess.run([sys.executable, "-c", f"{code}; print('served')"], capture_output=True, check=False)
    expected = (0, b"served\n") if supervisor == "alive" else (-signal.SIGTERM, b"")
    assert (done.returncode, done.stdout) == expected


def test_a_killed_process_is_not_alive_and_one_of_another_machine_is_until_it_is_silent(tmp_path: Path):
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with begin_immediate(engine) as connection:
        at = ledger_clock(connection)
        for name, host, pid, ago in (
            ("own", process_space(), process.pid, 0.0),
            ("elsewhere", "other/boot/1", process.pid, 0.0),
            ("silent", "other/boot/1", 1, ALIVE_SECONDS + 1),
        ):
            renew_beat(connection, Member(id=name, role="worker", host=host, pid=pid), at - ago)
    with engine.connect() as connection:
        assert by_role(connection) == {"worker": 2}
        process.kill()
        process.wait()
        assert by_role(connection) == {"worker": 1}
    engine.dispose()

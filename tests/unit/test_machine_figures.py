"""What heartbeats say of their machine: free space, also of a disk that hangs, and the offset of the clock."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hung_file_system import run_with_hung_disk
from ledgers import open_copy

from node.ledger.engine import begin_immediate, ledger_url
from node.ledger.members import MachineFigures, Member, beats, renew_beat
from node.ledger.migrations import revisions
from node.membership import Membership, new_member
from node.operate.fleet import ALIVE_SECONDS, fleet
from node.operate.fleet_machines import fleet_machines, offset_text
from node.spool.free_space import SpaceReader, space_of

BEATS = """
import json, sys, threading, time
from pathlib import Path
from hung_file_system import hung
from node.ledger.engine import ledger_url, open_ledger
from node.membership import Membership, new_member
from node.operate.fleet import fleet
from node.spool.free_space import SpaceReader

disk, engine = Path(sys.argv[2]), open_ledger(ledger_url("", Path(sys.argv[1])))
member = Membership(engine, new_member("worker"), 0.1, 3.0, SpaceReader(disk).read)

def now():
    [one] = fleet(engine)
    return one["beat_age_seconds"], one["free_bytes"]

member.begin()
seen = [now()]
with hung(disk):
    time.sleep(2.0)
    seen.append(now())
    waiting = [one.name for one in threading.enumerate() if one.name == "free space"]
print(json.dumps([seen, waiting]))
"""


@pytest.mark.thorough
def test_a_disk_that_hangs_stops_no_heartbeat_and_its_free_space_is_not_known(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    [[before, hanging], waiting] = json.loads(run_with_hung_disk(BEATS, tmp_path, disk))
    assert before[1] == pytest.approx(space_of(tmp_path).free, rel=0.05)
    assert hanging == [pytest.approx(0.0, abs=1.0), None], "it beats on, and says nothing of the disk"
    assert waiting == ["free space"], "one thread waits for the disk, whatever the number of beats"


def test_a_folder_that_is_gone_has_no_free_space(tmp_path: Path):
    reader = SpaceReader(tmp_path / "data")
    (tmp_path / "data").mkdir()
    assert reader.read() is not None
    shutil.rmtree(tmp_path / "data")
    assert reader.read() is None


def test_with_sqlite_a_clock_has_no_offset_because_it_is_the_ledgers(tmp_path: Path):
    engine = open_copy(ledger_url("", tmp_path))
    Membership(engine, new_member("worker"), space=SpaceReader(tmp_path).read).beat()
    with engine.connect() as connection:
        [beat] = beats(connection)
    assert (beat.figures.clock_offset_seconds, beat.figures.clock_error_seconds) == (None, None)
    assert beat.figures.total_bytes == space_of(tmp_path).total
    engine.dispose()


def test_a_process_of_the_version_before_beats_in_this_ledger(tmp_path: Path):
    """Expand and contract: it knows nothing of the columns."""
    engine, at = open_copy(ledger_url("", tmp_path)), time.time()
    row = {"id": "old", "role": "worker", "machine": "f00d", "host": "h/1", "pid": 1, "version": "1.2.0", "beat_at": at}
    row |= {"revision": "0032", "pipelines": "[]", "devices": "[]", "state": "active"}
    with engine.begin() as connection:
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.exec_driver_sql(f"INSERT INTO member ({names}) VALUES ({marks})", row)  # noqa: S608
    [machine] = fleet_machines(fleet(engine))
    assert revisions()[-1] >= "0033"
    assert (machine.space, machine.clock, machine.min_free_gib, machine.notices()) == (None, None, None, [])
    engine.dispose()


GIB = 2**30
FIGURES = MachineFigures(
    clock_offset_seconds=0.004, clock_error_seconds=0.001, free_bytes=80 * GIB, total_bytes=99 * GIB
)
MEMBER = Member(id="m", role="receiver", machine="f00d", host="ai1/boot/1", pid=1, min_free_gib=10.0)


@pytest.mark.parametrize(
    ("figures", "notice"),
    [
        (FIGURES, ""),
        (replace(FIGURES, free_bytes=10 * GIB), ""),
        (replace(FIGURES, free_bytes=9 * GIB), "9.0 GiB are free; images are refused below 10 GiB"),
        (replace(FIGURES, free_bytes=None, total_bytes=None), "the file system of its storage folder does not answer"),
        (replace(FIGURES, clock_offset_seconds=5.1), "the clock of ai1 is +5.1 s ± 0.1 s from the ledger's"),
        (replace(FIGURES, clock_offset_seconds=-3600.0), "the clock of ai1 is -3600.0 s ± 0.1 s from the ledger's"),
        (replace(FIGURES, clock_offset_seconds=5.1, clock_error_seconds=0.2), ""),  # it may be less than 5 s
    ],
)
def test_a_notice_is_given_only_of_what_is_certain(tmp_path: Path, figures: MachineFigures, notice: str):
    engine = open_copy(ledger_url("", tmp_path))
    with begin_immediate(engine) as connection:
        renew_beat(connection, MEMBER, time.time(), figures=figures)
    [machine] = fleet_machines(fleet(engine))
    assert len(machine.notices()) == bool(notice)
    assert "".join(machine.notices()).startswith(notice)
    engine.dispose()


def test_figures_are_of_the_latest_beat_that_has_them_and_of_no_silent_process(tmp_path: Path):
    engine, at = open_copy(ledger_url("", tmp_path)), time.time()
    with begin_immediate(engine) as connection:
        for number, (ago, free) in enumerate(((9.0, 1), (3.0, 2), (1.0, None), (ALIVE_SECONDS + 5, 4))):
            seen = MachineFigures(free_bytes=free, total_bytes=8)
            renew_beat(connection, replace(MEMBER, id=f"m{number}"), at - ago, figures=seen)
    [machine] = fleet_machines(fleet(engine))
    assert machine.space is not None
    assert machine.space.free == 2
    with begin_immediate(engine) as connection:
        for number in range(4):
            renew_beat(connection, replace(MEMBER, id=f"m{number}"), at - ALIVE_SECONDS - 1, figures=FIGURES)
    [machine] = fleet_machines(fleet(engine))
    assert (machine.space, machine.clock) == (None, None)
    assert machine.notices() == ["4 processes have not beaten for 30 s or longer"]
    engine.dispose()


@pytest.mark.parametrize(
    ("offset", "error", "text"),
    [
        (0.0, 0.0, "+0.0 s ± 0.1 s"), (-0.04, 0.002, "+0.0 s ± 0.1 s"), (0.04, 0.2, "+0.0 s ± 0.3 s"),
        (-3599.96, 1.52, "-3600.0 s ± 1.6 s"), (12.34, 0.05, "+12.3 s ± 0.1 s"), (12.34, 0.06, "+12.3 s ± 0.2 s"),
    ],
)  # fmt: skip
def test_the_error_that_is_shown_holds_the_rounding_too(offset: float, error: float, text: str):
    assert offset_text(offset, error) == text
    shown, bound = (float(part) for part in text.replace("s", "").split("±"))
    assert abs(shown - offset) + error <= bound + 1e-9

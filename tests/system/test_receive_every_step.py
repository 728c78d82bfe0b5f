"""kill -9 before every line that keeps an instance or recovers it: what was acknowledged has its file and its row."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from blake3 import blake3
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import encode

from node.config import Ae
from node.config import Storage as Settings
from node.ledger.engine import open_ledger
from node.ledger.tables import association, instance, series
from node.receive import recovery, row_writer, storage
from node.receive.messages import StoreRequest
from node.receive.policy import Admission, Policy
from node.receive.recovery import record_unrecorded, recover
from node.receive.row_writer import RowWriter
from node.receive.sender_quota import Quota
from node.receive.storage import Storage
from node.spool import Spool, dataset_offset, files
from node.spool import spool as spool_module

pytestmark = pytest.mark.rotating

IMAGE = ct_series(1, 16)[0]
BYTES = encode(IMAGE)
KEEPING = {storage.__file__, row_writer.__file__, files.__file__, spool_module.__file__}
RECOVERING = {recovery.__file__, files.__file__, spool_module.__file__}


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.sqlite'}"


def receive(folder: Path, acknowledge: Callable[[], None]) -> None:
    """One C-STORE, its row, and the end of the process."""
    spool, engine = Spool(folder), open_ledger(url(folder))
    rows = RowWriter(engine, spool)
    rows.start()
    sender = SimpleNamespace(
        id="a1",
        calling_ae="CT",
        called_ae="AINODE",
        peer_address="192.0.2.1",
        opened_at=1.0,
        certificate=None,
        admission=Admission(),
    )
    request = StoreRequest(
        association=cast("Any", sender),
        context_class_uid=CTImageStorage,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        sop_class_uid=CTImageStorage,
        sop_instance_uid=IMAGE.SOPInstanceUID,
    )
    incoming = Storage(
        spool=spool,
        row_writer=rows,
        quota=Quota(lambda _title: 0),
        policy=Policy.of(Ae()),
        title="AINODE",
        settings=Settings(min_free_gib=0.0),
    ).store(request)
    incoming.write([memoryview(BYTES)])
    assert incoming.finish() is None
    acknowledge()
    rows.stop()


def killed_before(line: int, files: set[str | None], work: Callable[[Callable[[], None]], None]) -> tuple[bool, bool]:
    """Run ``work`` in a process that is killed before its ``line``-th new line: was it killed, had it acknowledged."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        seen: set[tuple[str, int]] = set()

        def trace(frame: FrameType, event: str, _argument: object) -> Any:
            if frame.f_code.co_filename not in files:
                return None
            if event == "line" and (place := (frame.f_code.co_filename, frame.f_lineno)) not in seen:
                seen.add(place)
                if len(seen) == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        status = 1
        try:
            threading.settrace(trace)
            sys.settrace(trace)
            work(lambda: os.write(told, b"!") and None)
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    _, status = os.waitpid(child, 0)
    acknowledged = os.read(heard, 1) == b"!"
    os.close(heard)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"line {line}: the work itself failed"
    return os.WIFSIGNALED(status), acknowledged


def each_line(
    tmp_path: Path, files: set[str | None], work: Callable[[Path, Callable[[], None]], None]
) -> Iterator[tuple[Path, bool]]:
    """A folder for every line before which ``work`` was killed, and whether it had acknowledged by then."""
    line, killed = 0, True
    empty = tmp_path / "empty"  # making a ledger takes longer than all the rest
    Spool(empty)
    open_ledger(url(empty)).dispose()
    while killed:
        line += 1
        folder = tmp_path / str(line)
        shutil.copytree(empty, folder)
        killed, acknowledged = killed_before(line, files, lambda told, folder=folder: work(folder, told))  # type: ignore[misc]
        yield folder, acknowledged
    assert line > 50, "too few lines were traced to prove anything"


def check(folder: Path, *, acknowledged: bool) -> int:
    """All is well after recovery; return how many instances there are."""
    spool, engine = Spool(folder), open_ledger(url(folder))
    recover(engine, spool, frozenset)
    assert record_unrecorded(engine, spool, threading.Event()) == 0, (
        "recovery left a file to the search of the whole spool"
    )
    with engine.connect() as connection:
        rows = connection.execute(sa.select(instance)).all()
        counted = connection.scalar(sa.select(sa.func.sum(series.c.instances))) or 0
        open_ = connection.execute(sa.select(association).where(association.c.closed_at.is_(None))).all()
    engine.dispose()
    assert len(rows) == counted >= acknowledged
    assert open_ == []
    assert not any((folder / "temporary").iterdir())
    assert sorted(p.relative_to(folder) for p in folder.glob("incoming/*/*/*")) == [Path(row.path) for row in rows]
    for row in rows:
        content = spool.absolute(row.path).read_bytes()
        assert content[dataset_offset(spool.absolute(row.path)) :] == BYTES
        assert row.digest == f"blake3:{blake3(content).hexdigest()}"
    return len(rows)


def test_a_receiver_killed_at_any_line_forgets_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    counts = [check(folder, acknowledged=told) for folder, told in each_line(tmp_path, KEEPING, receive)]
    assert 0 in counts
    assert counts[-1] == 1


def test_a_recovery_killed_at_any_line_is_done_by_the_next_one(tmp_path: Path) -> None:
    def acknowledge_and_die(folder: Path, told: Callable[[], None]) -> None:
        receive(folder, lambda: (told(), os.kill(os.getpid(), signal.SIGKILL))[0])

    def work(folder: Path, told: Callable[[], None]) -> None:
        died = os.fork()
        if died == 0:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            acknowledge_and_die(folder, lambda: None)
        os.waitpid(died, 0)
        told()
        recover(open_ledger(url(folder)), Spool(folder), frozenset)

    for folder, told in each_line(tmp_path, RECOVERING, work):
        check(folder, acknowledged=told)

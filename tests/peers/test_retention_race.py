"""A late image against retention, statement by statement: what was acknowledged keeps its row and its file."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa

from node.config import Config
from node.ledger.engine import begin_immediate, now, open_ledger
from node.ledger.instances import Receipt, record_instances
from node.ledger.tables import conflict, event, instance, series
from node.operate.purge import Retention
from node.spool import Spool, StoredFile

pytestmark = pytest.mark.rotating

MONTH = 30 * 86400.0
STATEMENTS_OF_RETENTION, STATEMENTS_OF_RECEIPT = 28, 9
"""At least as many as there are: a pause behind the last one is none."""
BLOCKED_SECONDS = 0.01
"""A thread that has slept that long, while the database worked for nobody, waits for a lock of the other."""
_NUMBERS = itertools.count()
_WORKING = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'"
)


def _sleeps(thread: threading.Thread) -> bool:
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    except OSError:  # not begun, or ended
        return False
    return stat.rpartition(") ")[2].startswith("S")


class Turns:
    """Stops each of two threads before one of its statements, and says how far it came."""

    def __init__(self, engine: sa.Engine) -> None:
        self._at: dict[str, int] = {}
        self._stops: dict[str, tuple[int, threading.Event, threading.Event]] = {}
        self._watch = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        sa.event.listen(engine, "before_cursor_execute", lambda *_: self._pass())
        sa.event.listen(engine, "commit", lambda *_: self._pass())

    def begin(self, work: Callable[[], object], name: str, stop: int) -> tuple[threading.Thread, threading.Event]:
        """Run ``work`` until its statement number ``stop``; the event lets it go on."""
        reached, go_on = threading.Event(), threading.Event()
        self._at[name], self._stops[name] = 0, (stop, reached, go_on)

        def run() -> None:
            try:
                work()
            finally:
                reached.set()

        thread = threading.Thread(target=run, name=name)
        thread.start()
        self.settle(thread, reached)
        return thread, go_on

    def close(self) -> None:
        self._watch.close()

    def settle(self, thread: threading.Thread, reached: threading.Event | None = None) -> None:
        """Return when ``thread`` has ended or stopped, or waits for a lock: not when the machine is busy."""
        works_at = time.monotonic()
        while thread.is_alive() and not (reached and reached.wait(0.001)):
            if not _sleeps(thread) or self._database_works():
                works_at = time.monotonic()
            elif time.monotonic() - works_at > BLOCKED_SECONDS:
                return
            thread.join(0.001)

    def _database_works(self) -> bool:
        if self._watch.dialect.name != "postgresql":  # SQLite works in the thread itself
            return False
        return bool(self._watch.execute(_WORKING).scalar())

    def _pass(self) -> None:
        name = threading.current_thread().name
        if name not in self._stops:
            return
        stop, reached, go_on = self._stops[name]
        if self._at[name] == stop:
            reached.set()
            assert go_on.wait(60.0)
        self._at[name] += 1


class Study:
    """A study that is due to be purged, and one more file of it."""

    def __init__(self, engine: sa.Engine, spool: Spool, number: int) -> None:
        self.engine, self.spool = engine, spool
        self.uid = f"1.2.{number}"
        self.old = self.keep("1.3", "1.4", b"old")
        self.record(self.old, "1.3", "1.4", at=now() - 2 * MONTH)
        with begin_immediate(engine) as connection:
            here = series.c.study_instance_uid == self.uid
            connection.execute(sa.update(series).where(here).values(state="COMPLETE", generation=1))
        self.late = self.old

    def keep(self, series_uid: str, sop: str, data: bytes) -> StoredFile:
        header = b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\0\0\0\0"
        return self.spool.keep(self.uid, f"{self.uid}.{series_uid}", f"{self.uid}.{sop}", [header + data])

    def record(self, kept: StoredFile, series_uid: str, sop: str, at: float) -> None:
        receipt = Receipt(
            sop_instance_uid=f"{self.uid}.{sop}", sop_class_uid="1", transfer_syntax_uid="1",
            study_instance_uid=self.uid, series_instance_uid=f"{self.uid}.{series_uid}", modality="CT", path=kept.path,
            digest=kept.digest, size=kept.size, conflict=kept.status == "conflict", association=None, received_at=at,
        )  # fmt: skip
        with begin_immediate(self.engine) as connection:
            record_instances(connection, [receipt])

    def receive(self, kind: str) -> None:
        """A late image, acknowledged when its file is durable; its row follows."""
        series_uid = "1.9" if kind == "new series" else "1.3"
        sop = "1.5" if kind in ("same series", "new series") else "1.4"
        self.late = self.keep(series_uid, sop, {"conflict": b"other"}.get(kind, b"old"))
        self.record(self.late, series_uid, sop, at=now())

    def check(self, kind: str) -> None:
        with self.engine.connect() as connection:
            rows = {
                row.path: row.sop_instance_uid
                for table in (instance, conflict)
                for row in connection.execute(sa.select(table).where(table.c.study_instance_uid == self.uid))
            }
            counted = connection.scalar(
                sa.select(sa.func.sum(series.c.instances)).where(series.c.study_instance_uid == self.uid)
            )
            images = connection.scalar(
                sa.select(sa.func.count()).select_from(instance).where(instance.c.study_instance_uid == self.uid)
            )
        exists = self.spool.absolute(self.late.path).exists()
        if kind == "same":  # the receiver looks at the file once more, and refuses the image when it is gone
            assert not exists or self.late.path in rows
        else:
            assert exists, "the file of an acknowledged image was deleted"
            assert self.late.path in rows, "an acknowledged image has no row"
            assert set(self.spool.files(f"incoming/{self.uid}")) <= set(rows)
            assert all(self.spool.absolute(path).exists() for path in rows), "a row without a file"
        assert (counted or 0) == images


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    if request.param == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_server"), f"race{next(_NUMBERS)}")
    opened = open_ledger(url)
    yield opened
    opened.dispose()


@pytest.mark.parametrize("kind", ["same series", "new series", "conflict", "same"])
def test_252_interleavings_of_a_late_image_and_retention(engine: sa.Engine, tmp_path: Path, kind: str) -> None:
    spool = Spool(tmp_path / "spool", synced=False)
    config = Config.model_validate({"storage": {"folder": tmp_path / "spool"}, "retention": {"days": 30}})
    retention, turns = Retention(config, engine, spool), Turns(engine)
    faults: list[BaseException] = []
    hook, threading.excepthook = threading.excepthook, lambda args: faults.append(args.exc_value)  # type: ignore[arg-type]
    purged = 0
    try:
        for number, (of_retention, of_receipt) in enumerate(
            itertools.product(range(STATEMENTS_OF_RETENTION), range(STATEMENTS_OF_RECEIPT))
        ):
            study = Study(engine, spool, number)
            told: list[Any] = []
            first, let_first = turns.begin(lambda: told.extend(retention.step(now())), "retention", of_retention)  # noqa: B023
            second, let_second = turns.begin(lambda: study.receive(kind), "receipt", of_receipt)  # noqa: B023
            let_first.set()
            turns.settle(first)
            let_second.set()
            first.join()
            second.join()
            assert not faults, (of_retention, of_receipt, faults)
            study.check(kind)
            purged += study.uid in told
            _empty(engine)
    finally:
        threading.excepthook = hook
        turns.close()
    whole = STATEMENTS_OF_RETENTION * STATEMENTS_OF_RECEIPT
    # An image that was there before, byte for byte, does not make its study a younger one.
    assert purged == whole if kind == "same" else 0 < purged < whole


def _empty(engine: sa.Engine) -> None:
    with begin_immediate(engine) as connection:
        for table in (event, conflict, instance, series):
            connection.execute(sa.delete(table))

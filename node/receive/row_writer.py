"""Rows follow their files: one thread writes those of all associations, many per transaction, a moment later.

A file is the truth before its row is written; until then it has a second name among the temporaries, by which
start-up finds it when this process is killed (``node.receive.recovery``). So the ledger is not in the way of a C-STORE,
and a ledger that is away for a while stops nobody.

No failure drops a row. After each the ledger is asked whether it takes a row that is surely sound. If it does, the
batch is halved until the rows that it refuses are alone; these are set aside and tried again by themselves, so that
they hold up no other. If it does not, everything waits. Memory and promises stay bounded: ``has_room`` says no, and
images are refused, with ``ROWS_BEHIND`` rows unwritten or a ledger that took nothing for ``STALLED_SECONDS``.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.errors import LedgerError
from node.ledger.association_endings import Ending
from node.ledger.associations import close_associations
from node.ledger.engine import begin_immediate, now
from node.ledger.instances import Receipt, record_instances, try_row
from node.retry_delay import retry_delay
from node.spool import Draft

LOGGER = logging.getLogger(__name__)

ROWS_BEHIND = 4096
"""Rows that may wait for the ledger, some MiB of memory."""
STALLED_SECONDS = 30.0
"""A ledger that takes no row for this long stops the receiver from acknowledging more."""
_FOLLOW_SECONDS = 0.4
"""How long rows gather before they are written: a transaction costs the same for one as for a hundred."""
_BATCH = 256
"""Rows per transaction at most: bounds how long one commit keeps the ledger locked."""
_PATIENCE_SECONDS = 15.0
"""How long ``record`` waits: less than senders do."""
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 1.0, 8.0
"""While the ledger takes nothing, doubled each time; for a row that it refuses the last is ``_LAST_RETRY_SECONDS``."""
_LAST_RETRY_SECONDS = 300.0
_LAST_TRIALS = 3
"""Failures in a row that end the writing when this process stops; its successor finds the files."""


@dataclass(frozen=True)
class _Row:
    receipt: Receipt
    draft: Draft | None = None
    """Its second name, given up when the row is durable."""
    durable: Future[None] | None = None
    """Gets the answer of the first attempt; nobody waits when there is a draft."""


@dataclass(frozen=True)
class _Close:
    association_id: str
    ending: Ending


@dataclass(frozen=True)
class _Refused:
    """A row that the ledger did not take when it was alone."""

    row: _Row
    failures: int
    due: float
    """When it is tried again, on the monotonic clock."""


class RowWriter:
    """Writes the rows of one process. While one transaction is synced, the next batch gathers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Row | _Close | None] = queue.SimpleQueue()
        self._waiting: deque[_Row] = deque()
        self._refused: deque[_Refused] = deque()
        self._closing: dict[str, Ending] = {}
        self._batch = _BATCH
        self._stalled_since: float | None = None
        """When the ledger first took no row at all, on the monotonic clock."""
        self._lock = threading.Lock()
        self._stopped = False
        self._hurry = threading.Event()
        """Somebody waits for a row."""
        self._thread = threading.Thread(target=self._run, name="receive-committer", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end. What the ledger does not take now is found at the next start."""
        with self._lock:
            self._stopped = True
            self._queue.put(None)
            self._hurry.set()
        self._thread.join()

    def has_room(self) -> bool:
        """Whether another row may wait. Asked before an image is taken, so a few more than the limit may come."""
        since = self._stalled_since
        if since is not None and time.monotonic() - since > STALLED_SECONDS:
            return False
        return self._queue.qsize() + len(self._waiting) + len(self._refused) < ROWS_BEHIND

    def follow(self, receipt: Receipt, draft: Draft) -> None:
        """Have the row written soon; ``draft`` is the temporary name of its file, taken away then."""
        self._queue.put(_Row(receipt, draft))

    def record(self, receipt: Receipt) -> None:
        """Return when the row is durable. Raises ``LedgerError`` when it is not: nothing may be promised then."""
        durable: Future[None] = Future()
        with self._lock:
            if self._stopped:
                raise LedgerError("the receiver has stopped; the row is written at its next start")
            self._queue.put(_Row(receipt, durable=durable))
            self._hurry.set()
        try:
            durable.result(_PATIENCE_SECONDS)
        except TimeoutError:
            durable.cancel()
            raise LedgerError(f"row of a received instance not written within {_PATIENCE_SECONDS:g} s") from None

    def close(self, association_id: str, ending: Ending) -> None:
        """Have an association marked closed, after all its rows; repeated until the ledger takes it."""
        self._queue.put(_Close(association_id, ending))

    def _run(self) -> None:
        last, failures = False, 0
        while not last or self._waiting or self._ended():
            if not last:
                last = self._gather()
            if self._record() and self._close():
                failures = 0
                continue
            failures += 1
            if last and failures >= _LAST_TRIALS:
                return
            self._hurry.wait(retry_delay(failures, _FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS))

    def _gather(self) -> bool:
        """Take the next batch; whether it is the last one.

        Rows gather while this thread sleeps: to be woken for each of them would cost their associations more than all
        the rest of a small C-STORE.
        """
        last = False
        if not self._waiting and not self._ended() and self._stalled_since is None:
            due = max(self._refused[0].due - time.monotonic(), 0.0) if self._refused else None
            try:
                last = self._take(self._queue.get(timeout=due))
            except queue.Empty:
                return False
            if not last and self._queue.qsize() < _BATCH:
                self._hurry.wait(_FOLLOW_SECONDS)
        self._hurry.clear()
        while not last and len(self._waiting) < _BATCH:
            try:
                last = self._take(self._queue.get_nowait())
            except queue.Empty:
                break
        return last

    def _take(self, item: _Row | _Close | None) -> bool:
        if isinstance(item, _Close):
            self._closing[item.association_id] = item.ending
        elif item is not None:
            self._waiting.append(item)
        return item is None

    def _record(self) -> bool:
        """Write what waits, then what was refused and is due; ``False``: the ledger takes nothing."""
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            rows = [row for row in rows if row.durable is None or row.durable.set_running_or_notify_cancel()]
            error = self._write(rows)
            if error is None:
                self._batch = min(2 * self._batch, _BATCH)
                continue
            self._waiting.extendleft(row for row in reversed(rows) if row.durable is None)
            if not self._is_sound():
                LOGGER.warning("%d row(s) not yet written: %s", len(self._waiting), error)
                return False
            self._batch = max(len(rows) // 2, 1)
            if len(rows) == 1 and rows[0].durable is None:
                self._refuse(_Refused(self._waiting.popleft(), 0, 0.0), error)
        return (self._stalled_since is None or self._is_sound()) and self._record_refused()

    def _record_refused(self) -> bool:
        while self._refused and self._refused[0].due <= time.monotonic():
            refused = self._refused.popleft()
            error = self._write([refused.row])
            if error is None:
                LOGGER.info("%s: row written after %d refusals", refused.row.receipt.path, refused.failures)
                continue
            self._refuse(refused, error)
            if not self._is_sound():
                return False
        return True

    def _refuse(self, refused: _Refused, error: Exception) -> None:
        """Set a row aside, in the order in which they are due."""
        failures = refused.failures + 1
        seconds = retry_delay(failures + 1, _FIRST_PAUSE_SECONDS, _LAST_RETRY_SECONDS)
        trace = None if isinstance(error, SQLAlchemyError) else error
        path = refused.row.receipt.path
        LOGGER.error("%s: the ledger refuses its row, tried again in %g s: %s", path, seconds, error, exc_info=trace)
        again = [*self._refused, _Refused(refused.row, failures, time.monotonic() + seconds)]
        self._refused = deque(sorted(again, key=lambda one: one.due))

    def _write(self, rows: list[_Row]) -> Exception | None:
        """Write rows in one transaction; why not. Whoever waits for one of them gets the answer."""
        if not rows:
            return None
        try:
            with begin_immediate(self._engine) as connection:
                record_instances(connection, [row.receipt for row in rows])
        except Exception as error:  # noqa: BLE001 - this actor's own loop: no failure may cost a row
            for row in rows:
                if row.durable is not None:
                    row.durable.set_exception(LedgerError(f"row of a received instance not written: {error}"))
            return error
        self._stalled_since = None
        for row in rows:
            if row.durable is not None:
                row.durable.set_result(None)
            if row.draft is not None:
                _discard(row.draft)
        return None

    def _is_sound(self) -> bool:
        """Whether the ledger takes rows at all."""
        try:
            try_row(self._engine)
        except Exception as error:  # noqa: BLE001 - as above
            if self._stalled_since is None:
                self._stalled_since = time.monotonic()
                LOGGER.error("the ledger takes no rows: %s", error)  # noqa: TRY400 - no traceback
            return False
        self._stalled_since = None
        return True

    def _ended(self) -> set[str]:
        """Associations to be marked closed: of one whose row is missing, the series is not complete."""
        if not self._closing:
            return set()
        behind = [*self._waiting, *(refused.row for refused in self._refused)]
        return self._closing.keys() - {
            row.receipt.association.id for row in behind if row.receipt.association is not None
        }

    def _close(self) -> bool:
        ended = self._ended()
        if not ended:
            return True
        try:
            with begin_immediate(self._engine) as connection:
                for ending in {self._closing[one] for one in ended}:
                    ids = [one for one in ended if self._closing[one] == ending]
                    close_associations(connection, ids, now(), ending)
        except Exception as error:  # noqa: BLE001 - as above
            LOGGER.warning("%d association(s) not yet marked closed: %s", len(ended), error)
            return False
        for one in ended:
            del self._closing[one]
        return True


def _discard(draft: Draft) -> None:
    try:
        draft.discard()
    except OSError as error:
        LOGGER.warning("%s stays until the next start: %s", draft.name, error)

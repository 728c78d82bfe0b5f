"""Writes the ledger rows of received files asynchronously: one thread, many rows per transaction.

Until its row is written a file keeps a link among the temporary files, by which recovery finds it if this process is
killed (``node.receive.recovery``). A C-STORE therefore does not wait for the ledger, and a short outage of the ledger
stops no sender.

No failure drops a row. After a failed batch a test row shows whether the ledger can be written. If it can, the batch is
halved until the rejected rows are isolated; these are set aside and retried alone. If it cannot, all rows wait. Memory
is bounded: with ``MOST_UNWRITTEN_ROWS`` rows, or a ledger that failed for ``STALLED_SECONDS``, ``has_room`` is
false and images are refused.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.errors import LedgerError
from node.ledger.association_endings import Ending
from node.ledger.associations import close_associations
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt, try_row
from node.receive.receipt_recording import record_receipts
from node.retry_delay import retry_delay
from node.spool import Draft, Spool

LOGGER = logging.getLogger(__name__)

MOST_UNWRITTEN_ROWS = 4096
"""Rows that may wait for the ledger; a few MiB of memory."""
STALLED_SECONDS = 30.0
"""A ledger that cannot be written for this long makes the receiver refuse images."""
_FOLLOW_SECONDS = 0.4
"""How long rows are collected before they are written: a transaction costs the same for one row as for a hundred."""
_BATCH = 256
"""Maximum rows per transaction; bounds how long a commit locks the ledger."""
_PATIENCE_SECONDS = 15.0
"""How long ``record`` waits; shorter than the timeouts of senders."""
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 1.0, 4.0
"""Pauses between attempts, doubled each time; the longest for a rejected row is ``_LAST_RETRY_SECONDS``."""
_LAST_RETRY_SECONDS = 300.0
_LAST_ATTEMPTS = 3
"""Consecutive failures after which a stopping process gives up; its successor recovers the files."""


@dataclass(frozen=True)
class _Row:
    receipt: Receipt
    draft: Draft | None = None
    """Temporary link of the file, deleted when the row is durable."""
    durable: Future[None] | None = None
    """Receives the result of the first attempt; only for rows without a draft."""


@dataclass(frozen=True)
class _Close:
    association_id: str
    ending: Ending


@dataclass(frozen=True)
class _RejectedRow:
    """A row that the ledger rejected on its own."""

    row: _Row
    failures: int
    due: float
    """Time of the next attempt, monotonic clock."""


class RowWriter:
    """Writes the rows of one process. While one transaction is synced, the next batch is collected."""

    def __init__(self, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool
        self._queue: queue.SimpleQueue[_Row | _Close | None] = queue.SimpleQueue()
        self._waiting: deque[_Row] = deque()
        self._rejected: deque[_RejectedRow] = deque()
        self._closing: dict[str, Ending] = {}
        self._batch = _BATCH
        self._stalled_since: float | None = None
        """Since when the ledger cannot be written, monotonic clock."""
        self._lock = threading.Lock()
        self._stopped = False
        self._wake = threading.Event()
        """Set when a caller waits for a row."""
        self._thread = threading.Thread(target=self._run, name="receive-committer", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write queued rows, then end. Rows that cannot be written are recovered at the next start."""
        with self._lock:
            self._stopped = True
            self._queue.put(None)
            self._wake.set()
        self._thread.join()

    def has_room(self) -> bool:
        """Return whether another row may wait. Checked before an image is accepted, so the limit is approximate."""
        since = self._stalled_since
        if since is not None and time.monotonic() - since > STALLED_SECONDS:
            return False
        return self._queue.qsize() + len(self._waiting) + len(self._rejected) < MOST_UNWRITTEN_ROWS

    def record_soon(self, receipt: Receipt, draft: Draft) -> None:
        """Queue a row; ``draft`` is the temporary link of its file, deleted when the row is written."""
        self._queue.put(_Row(receipt, draft))

    def record(self, receipt: Receipt) -> None:
        """Return when the row is durable. Raises ``LedgerError`` otherwise; then Success must not be sent."""
        durable: Future[None] = Future()
        with self._lock:
            if self._stopped:
                raise LedgerError("the receiver is stopped; the row is written at the next start")
            self._queue.put(_Row(receipt, durable=durable))
            self._wake.set()
        try:
            durable.result(_PATIENCE_SECONDS)
        except TimeoutError:
            durable.cancel()
            raise LedgerError(f"row of a received instance not written within {_PATIENCE_SECONDS:g} s") from None

    def close(self, association_id: str, ending: Ending) -> None:
        """Mark an association as closed after all its rows; retried until it succeeds."""
        self._queue.put(_Close(association_id, ending))

    def _run(self) -> None:
        self._is_sound()  # also compiles the statements, which takes ten milliseconds, before there are images
        last, failures = False, 0
        while not last or self._waiting or self._ended():
            if not last:
                last = self._gather()
            if self._record() and self._close():
                failures = 0
                continue
            failures += 1
            if last and failures >= _LAST_ATTEMPTS:
                return
            self._wake.wait(retry_delay(failures, _FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS))

    def _gather(self) -> bool:
        """Collect the next batch; return whether it is the last one.

        This thread sleeps meanwhile: waking it for each row would cost more than the rest of a small C-STORE.
        """
        last = False
        if not self._waiting and not self._ended() and self._stalled_since is None:
            due = max(self._rejected[0].due - time.monotonic(), 0.0) if self._rejected else None
            try:
                last = self._sort(self._queue.get(timeout=due))
            except queue.Empty:
                return False
            if not last and self._queue.qsize() < _BATCH:
                self._wake.wait(_FOLLOW_SECONDS)
        self._wake.clear()
        while not last and len(self._waiting) < _BATCH:
            try:
                last = self._sort(self._queue.get_nowait())
            except queue.Empty:
                break
        return last

    def _sort(self, item: _Row | _Close | None) -> bool:
        if isinstance(item, _Close):
            self._closing[item.association_id] = item.ending
        elif item is not None:
            self._waiting.append(item)
        return item is None

    def _record(self) -> bool:
        """Write waiting rows, then rejected ones that are due; ``False``: the ledger cannot be written."""
        while self._waiting:
            batch = list(islice(self._waiting, self._batch))  # counts as waiting while it is written
            rows = [row for row in batch if row.durable is None or row.durable.set_running_or_notify_cancel()]
            error = self._write(rows)
            for _ in batch:
                self._waiting.popleft()
            if error is None:
                self._batch = min(2 * self._batch, _BATCH)
                continue
            self._waiting.extendleft(row for row in reversed(rows) if row.durable is None)
            if not self._is_sound():
                LOGGER.warning("%d rows not yet written: %s", len(self._waiting), error)
                return False
            self._batch = max(len(rows) // 2, 1)
            if len(rows) == 1 and rows[0].durable is None:
                self._reject(_RejectedRow(self._waiting.popleft(), 0, 0.0), error)
        return (self._stalled_since is None or self._is_sound()) and self._retry_rejected()

    def _retry_rejected(self) -> bool:
        while self._rejected and self._rejected[0].due <= time.monotonic():
            rejected = self._rejected.popleft()
            error = self._write([rejected.row])
            if error is None:
                LOGGER.info("%s: row written after %d failed attempts", rejected.row.receipt.path, rejected.failures)
                continue
            self._reject(rejected, error)
            if not self._is_sound():
                return False
        return True

    def _reject(self, rejected: _RejectedRow, error: Exception) -> None:
        """Set a rejected row aside until its next attempt."""
        failures = rejected.failures + 1
        seconds = retry_delay(failures + 1, _FIRST_PAUSE_SECONDS, _LAST_RETRY_SECONDS)
        trace = None if isinstance(error, SQLAlchemyError) else error
        path = rejected.row.receipt.path
        LOGGER.error("%s: the ledger rejects its row; next attempt in %g s: %s", path, seconds, error, exc_info=trace)
        again = [*self._rejected, _RejectedRow(rejected.row, failures, time.monotonic() + seconds)]
        self._rejected = deque(sorted(again, key=lambda rejected: rejected.due))

    def _write(self, rows: list[_Row]) -> Exception | None:
        """Write rows in one transaction and resolve their futures; return the error, if any."""
        if not rows:
            return None
        try:
            with begin_immediate(self._engine) as connection:
                record_receipts(connection, self._spool, [row.receipt for row in rows])
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
        """Return whether the ledger accepts a test row."""
        try:
            try_row(self._engine)
        except Exception as error:  # noqa: BLE001 - as above
            if self._stalled_since is None:
                self._stalled_since = time.monotonic()
                LOGGER.error("the ledger cannot be written: %s", error)  # noqa: TRY400 - no traceback
            return False
        self._stalled_since = None
        return True

    def _ended(self) -> set[str]:
        """Return ended associations without unwritten rows; the others must not be marked closed yet."""
        if not self._closing:
            return set()
        behind = [*self._waiting, *(rejected.row for rejected in self._rejected)]
        return self._closing.keys() - {
            row.receipt.association.id for row in behind if row.receipt.association is not None
        }

    def _close(self) -> bool:
        ended = self._ended()
        if not ended:
            return True
        try:
            with begin_immediate(self._engine) as connection:
                for ending in {self._closing[association_id] for association_id in ended}:
                    ids = [association_id for association_id in ended if self._closing[association_id] == ending]
                    close_associations(connection, ids, ledger_clock(connection), ending)
        except Exception as error:  # noqa: BLE001 - as above
            LOGGER.warning("%d associations not yet marked closed: %s", len(ended), error)
            return False
        for association_id in ended:
            del self._closing[association_id]
        return True


def _discard(draft: Draft) -> None:
    try:
        draft.discard()
    except OSError as error:
        LOGGER.warning("%s is kept until the next start: %s", draft.name, error)

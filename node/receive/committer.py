"""Rows follow their files: one thread writes those of all associations, many per transaction, a moment later.

A file is the truth before its row is written; until then it has a second name among the temporaries, by which
start-up finds it when this process is killed (``node.receive.recovery``). So the ledger is not in the way of a C-STORE,
and a ledger that is away for a while stops nobody. Memory stays bounded: with ``ROWS_BEHIND`` rows
unwritten ``has_room`` says no, and images are refused.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import LedgerError
from node.ledger.engine import begin_immediate, now
from node.ledger.instances import Receipt, close_associations, record_instances
from node.spool import Draft

LOGGER = logging.getLogger(__name__)

ROWS_BEHIND = 4096
"""Rows that may wait for the ledger, some MiB of memory."""
_FOLLOW_SECONDS = 0.4
"""How long rows gather before they are written: a transaction costs the same for one as for a hundred."""
_BATCH = 256
"""Rows per transaction at most: bounds how long one commit keeps the ledger locked."""
_PATIENCE_SECONDS = 15.0
"""How long ``record`` waits: less than senders do."""
_RETRY_SECONDS = 1.0
"""Pause before rows that the ledger refused are written again."""


@dataclass(frozen=True)
class _Row:
    receipt: Receipt
    draft: Draft | None = None
    """Its second name, given up when the row is durable."""
    durable: Future[None] | None = None
    """Told that it is, or that it will not be; nobody waits when there is a draft."""


@dataclass(frozen=True)
class _Close:
    association_id: str


class Committer:
    """Writes the rows of one process. While one transaction is synced, the next batch gathers."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Row | _Close | None] = queue.SimpleQueue()
        self._behind: list[_Row] = []
        self._closing: set[str] = set()
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
        return self._queue.qsize() + len(self._behind) < ROWS_BEHIND

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
            raise LedgerError(f"row of a received instance not written within {_PATIENCE_SECONDS:g} s") from None

    def close(self, association_id: str) -> None:
        """Have an association marked closed, after all its rows; repeated until the ledger takes it."""
        self._queue.put(_Close(association_id))

    def _run(self) -> None:
        last = False
        while not last:
            last = self._gather()
            if self._behind:
                self._record()
            if self._closing and not self._behind:
                self._close()
            if self._behind or self._closing:
                if self._stopped:
                    return
                time.sleep(_RETRY_SECONDS)

    def _gather(self) -> bool:
        """Take the next batch; whether it is the last one.

        Rows gather while this thread sleeps: to be woken for each of them would cost their associations more than all
        the rest of a small C-STORE.
        """
        last = False
        if not self._behind and not self._closing:
            last = self._take(self._queue.get())
            if not last and self._queue.qsize() < _BATCH:
                self._hurry.wait(_FOLLOW_SECONDS)
        self._hurry.clear()
        while not last and len(self._behind) < _BATCH:
            try:
                last = self._take(self._queue.get_nowait())
            except queue.Empty:
                break
        return last

    def _take(self, item: _Row | _Close | None) -> bool:
        if isinstance(item, _Close):
            self._closing.add(item.association_id)
        elif item is not None:
            self._behind.append(item)
        return item is None

    def _record(self) -> None:
        try:
            self._write(self._behind)
        except sa.exc.OperationalError as error:
            LOGGER.warning("%d row(s) not yet written: %s", len(self._behind), error)
            for row in self._behind:
                if row.durable is not None:
                    row.durable.set_exception(LedgerError(f"row of a received instance not written: {error}"))
            self._behind = [row for row in self._behind if row.durable is None]
            return
        except Exception:  # noqa: BLE001 - this actor's own loop: one row that is refused must not cost the others
            for row in self._behind:
                self._record_alone(row)
        self._behind = []

    def _record_alone(self, row: _Row) -> None:
        try:
            self._write([row])
        except Exception as error:  # this actor's own loop: whoever waits must be told
            LOGGER.exception("%s: row not written; tried again at the next start", row.receipt.path)
            if row.durable is not None:
                row.durable.set_exception(LedgerError(f"row of a received instance not written: {error}"))

    def _write(self, rows: list[_Row]) -> None:
        with begin_immediate(self._engine) as connection:
            record_instances(connection, [row.receipt for row in rows])
        for row in rows:
            if row.durable is not None:
                row.durable.set_result(None)
            if row.draft is not None:
                row.draft.discard()

    def _close(self) -> None:
        try:
            with begin_immediate(self._engine) as connection:
                close_associations(connection, self._closing, now())
        except sa.exc.SQLAlchemyError as error:
            LOGGER.warning("%d association(s) not yet marked closed: %s", len(self._closing), error)
        else:
            self._closing.clear()

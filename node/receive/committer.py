"""Group commit: one thread writes the rows of all associations, many per transaction."""

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

LOGGER = logging.getLogger(__name__)

_BATCH = 256
"""Rows per transaction at most: bounds how long one commit keeps the ledger locked."""
_RETRY_SECONDS = 1.0
"""Pause before a close that the ledger refused is written again."""


@dataclass(frozen=True)
class _Promise:
    receipt: Receipt
    durable: Future[None]


@dataclass(frozen=True)
class _Close:
    association_id: str


class Committer:
    """Makes rows durable. While one transaction is synced, the next batch gathers."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Promise | _Close | None] = queue.SimpleQueue()
        self._closing: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="receive-committer", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end; who comes later is told that nothing was written."""
        with self._lock:
            self._stopped = True
            self._queue.put(None)
        self._thread.join()

    def record(self, receipt: Receipt) -> None:
        """Return when the row is durable. Raises ``LedgerError`` when it is not: nothing may be promised then."""
        promise = _Promise(receipt, Future())
        with self._lock:
            if self._stopped:
                raise LedgerError("the receiver has stopped; the row is written at its next start")
            self._queue.put(promise)
        promise.durable.result()

    def close(self, association_id: str) -> None:
        """Have an association marked closed; repeated until the ledger takes it."""
        self._queue.put(_Close(association_id))

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._gather()
            promises = [item for item in batch if isinstance(item, _Promise)]
            self._closing.update(item.association_id for item in batch if isinstance(item, _Close))
            if promises:
                self._record(promises)
            if self._closing:
                self._close()

    def _gather(self) -> tuple[list[_Promise | _Close], bool]:
        """The next batch, and whether it is the last."""
        batch: list[_Promise | _Close] = []
        try:
            item = self._queue.get(timeout=_RETRY_SECONDS if self._closing else None)
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH:
                    return batch, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _record(self, promises: list[_Promise]) -> None:
        try:
            with begin_immediate(self._engine) as connection:
                record_instances(connection, [promise.receipt for promise in promises])
        except Exception as error:  # noqa: BLE001 - this actor's own loop: whoever waits must be told
            if len(promises) > 1 and not isinstance(error, sa.exc.OperationalError):
                # One row that the database refuses must not cost the others their Success.
                for promise in promises:
                    self._record([promise])
                return
            for promise in promises:
                promise.durable.set_exception(LedgerError(f"row of a received instance not written: {error}"))
            return
        for promise in promises:
            promise.durable.set_result(None)

    def _close(self) -> None:
        try:
            with begin_immediate(self._engine) as connection:
                close_associations(connection, self._closing, now())
        except sa.exc.SQLAlchemyError as error:
            LOGGER.warning("%d association(s) not yet marked closed: %s", len(self._closing), error)
            time.sleep(_RETRY_SECONDS)
        else:
            self._closing.clear()

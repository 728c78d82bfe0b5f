"""Writes messages of all connections to the ledger, those that wait at one time in one transaction.

One commit for each message would bound the rate by the disk: a sender waits for its answer before it sends the next.
"""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.ledger.engine import begin_immediate
from node.ledger.new_orders import OrderMessage
from node.ledger.order_messages import Receipt, record_messages

logger = logging.getLogger(__name__)

_AT_ONCE = 100
"""Messages of one transaction."""
Recorded = tuple[Receipt, OrderMessage]


class MessageWriter:
    """One thread that records messages."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[tuple[Recorded, Future[Receipt]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="order messages", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def finish(self) -> None:
        """Write what waits and end."""
        self._waiting.put(None)
        self._thread.join()

    def record(self, receipt: Receipt, said: OrderMessage) -> Receipt:
        """Wait until a message is durable; return its receipt, that of the first time for one that came before.

        Raises ``SQLAlchemyError`` when the ledger cannot take it.
        """
        future: Future[Receipt] = Future()
        self._waiting.put(((receipt, said), future))
        return future.result()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while len(batch) < _AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = None in batch
            self._write([message for message in batch if message is not None])

    def _write(self, batch: list[tuple[Recorded, Future[Receipt]]]) -> None:
        if not batch:
            return
        try:
            with begin_immediate(self._engine) as connection:
                receipts = record_messages(connection, [recorded for recorded, _ in batch])
        except Exception as error:
            if len(batch) > 1:  # one of them must not keep the others
                for message in batch:
                    self._write([message])
                return
            trace = None if isinstance(error, SQLAlchemyError) else error
            logger.warning("a message was not recorded: %s", type(error).__name__, exc_info=trace)
            batch[0][1].set_exception(error)
            return
        for (_, future), receipt in zip(batch, receipts, strict=True):
            future.set_result(receipt)

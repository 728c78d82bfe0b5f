"""Ledger writes of the engine: retried while the ledger is unavailable, failed when the change is at fault."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from node.ledger.engine import begin_immediate
from node.ledger.instances import try_row
from node.queues.turns import AttemptAbandoned

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

_PAUSE_SECONDS = 1.0
_TRIALS = 3
"""How often a ledger that takes other rows may refuse a change: a deadlock passes, a fault does not."""


class LedgerWrites:
    """Commits changes one by one; any thread may call it."""

    def __init__(self, engine: Engine, stopping: threading.Event) -> None:
        """``stopping``: ends the waiting."""
        self._engine = engine
        self._stopping = stopping

    def commit(self, change: Callable[[Connection], Result]) -> Result:
        """Commit ``change``; finished work is not thrown away because the ledger is away for a while.

        Raises ``AttemptAbandoned`` when this process must end meanwhile, and any error of ``change``: of the ledger's
        own errors those that refuse this change while other rows are accepted.
        """
        refusals = 0
        while True:
            try:
                with begin_immediate(self._engine) as connection:
                    return change(connection)
            except SQLAlchemyError as error:
                if self._takes_rows():
                    refusals += 1
                    if refusals == _TRIALS or isinstance(error, IntegrityError):
                        raise
                logger.warning("jobs: a change is not in the ledger yet (%s); trying again", error)
                if self._stopping.wait(_PAUSE_SECONDS):
                    raise AttemptAbandoned from error

    def _takes_rows(self) -> bool:
        try:
            try_row(self._engine)
        except SQLAlchemyError:
            return False
        return True

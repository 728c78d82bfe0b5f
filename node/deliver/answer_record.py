"""The answers of a destination on their way into the ledger, several in one transaction."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from node.deliver.object_result import Answer
from node.ledger.deliveries import Claim, ObjectStatus, record_statuses
from node.ledger.destination_circuits import reset_failures
from node.ledger.engine import begin_immediate
from node.ledger.pending_deliveries import PendingObject

_AT_ONCE = 16
_LONGEST_SECONDS = 1.0
"""How long an answer waits for others when the next one comes."""


class AnswerRecord:
    """Keeps answers from ``add`` on and writes them in groups, all of them at the end of its ``with`` block.

    A sender that is killed sends those again that are not written, at most ``_AT_ONCE``.
    """

    def __init__(self, engine: Engine, claim: Claim, *, one_by_one: bool) -> None:
        """``one_by_one``: the destination would see as another message what it gets again."""
        self._engine = engine
        self._claim = claim
        self._at_once = 1 if one_by_one else _AT_ONCE
        self._unwritten: list[ObjectStatus] = []
        self._since = 0.0
        self._answers = False
        self.is_wanted = True
        """Whether the delivery was still wanted when answers were last written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def add(self, instance: PendingObject, answer: Answer) -> None:
        """Keep the answer to one object."""
        if not self._unwritten:
            self._since = time.monotonic()
        self._unwritten.append(ObjectStatus(instance.sop_instance_uid, answer.status, answer.comment, answer.sent))
        self._answers |= not answer.lost
        if len(self._unwritten) >= self._at_once or time.monotonic() - self._since >= _LONGEST_SECONDS:
            self._write()

    def _write(self) -> None:
        if not self._unwritten:
            return
        with begin_immediate(self._engine) as connection:
            if self._answers:
                reset_failures(connection, self._claim.destination)
            self.is_wanted = record_statuses(connection, self._claim, self._unwritten)
        self._unwritten, self._answers = [], False

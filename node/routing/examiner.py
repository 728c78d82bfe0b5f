"""The router's side of the examination of series: what it asks, remembers, and puts off."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from node.config import Rule
from node.confined import Bounds, shared_process
from node.errors import InputError, NodeError
from node.ledger.order_keys import OrderKeys
from node.reasons import ReasonCode, reason
from node.retry_delay import retry_delay
from node.routing.series_examination import Examination, SeriesQuestion, examine, examine_quickly, ignored
from node.routing.slow_examinations import Key, SlowExaminations
from node.spool import Spool

logger = logging.getLogger(__name__)

BOUNDS = Bounds(memory_mib=2048, cpu_seconds=15, wall_seconds=180.0)
"""Of a quick examination, which stops by itself unless a library does not return."""
SLOW_BOUNDS = Bounds(memory_mib=2048, cpu_seconds=60, wall_seconds=180.0)
"""20,000 headers take 20 s; a bomb ends at the first of these bounds."""
_PROBATION_SECONDS = 600.0
"""A sender of a series that took long; meanwhile its series are examined apart, which delays honest ones little."""
_FIRST_SECONDS, _MAX_SECONDS = 30.0, 3600.0
"""Before a series that reached the bounds, or ended the process, is examined again."""
_APART = "its headers, or those of other series of its sender, take long to read: they are read apart from others"
_LOGGED = 20
"""Unreadable files of a series that the log names."""


@dataclass(frozen=True)
class PendingExamination:
    """Why a series cannot be examined now, and until when."""

    reason: str
    seconds: float
    """How long it is put off."""
    until: float
    """Seconds since 1970 UTC."""
    failures: int


class Examiner:
    """Examines series in a confined process; asks only when something has changed."""

    def __init__(self, spool: Spool, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        folders = spool.data_folders
        self._process = shared_process("header reader", folders, BOUNDS, decodes=False)
        slow = shared_process("slow header reader", folders, SLOW_BOUNDS, decodes=False)
        self._slow = SlowExaminations(
            lambda key, question: slow.call(f"series {key[1]}", examine, question, self._rules)
        )
        self._answers: dict[Key, tuple[SeriesQuestion, Examination]] = {}
        self._pending: dict[Key, PendingExamination] = {}
        self._probation: dict[str, float] = {}
        """Until when, by sender."""

    def examined(self, key: Key) -> int:
        """How many files of a series have been looked at."""
        return len(self._answers[key][0].paths) if key in self._answers else 0

    def request(self, key: Key) -> OrderKeys:
        """What the headers of a series say of its order, as of its last examination."""
        return self._answers[key][1].request if key in self._answers else OrderKeys()

    def examine(self, key: Key, question: SeriesQuestion, at: float) -> Examination | PendingExamination:
        """Examine a series at ``at``.

        A series that takes long is examined apart from others, and so are the next ones of its sender: an honest sender
        waits for no series of another. One whose headers take more than the bounds is ignored, with the bound as its
        reason. If more of its images come, it is examined again, but ever later.
        """
        asked, answer = self._answers.get(key, (None, None))
        if answer is not None and asked == question:
            return answer
        before = self._pending.get(key)
        if before is not None and at < before.until:
            return before
        try:
            answer = self._examined(key, question, at)
        except NodeError as error:
            failures = 1 + (before.failures if before is not None else 0)
            seconds = retry_delay(failures, _FIRST_SECONDS, _MAX_SECONDS)
            pending = PendingExamination(str(error), seconds, at + seconds, failures)
            self._pending = {
                series_key: old for series_key, old in self._pending.items() if at < old.until + _MAX_SECONDS
            }
            self._pending[key] = pending
            if not isinstance(error, InputError):  # not the fault of its files
                return pending
            answer = Examination(decision=ignored(reason(ReasonCode.HEADERS_REFUSED, explanation=str(error))))
        else:
            if answer is None:
                return PendingExamination(_APART, inf, inf, 0)
            self._pending.pop(key, None)
        for why in answer.unreadable[:_LOGGED]:
            logger.warning("router: %s", why)
        self._answers[key] = (question, answer)
        return answer

    def _examined(self, key: Key, question: SeriesQuestion, at: float) -> Examination | None:
        """Return the answer; ``None``: it is examined apart. Raises ``NodeError``."""
        result = self._slow.take(key)
        if result is not None:
            if isinstance(result.outcome, NodeError):
                raise result.outcome
            if result.question == question:
                return result.outcome
        sender = ", ".join(sorted({address for _, address in question.origin.senders}))
        if not self._slow.has(key) and self._probation.get(sender, 0.0) <= at:
            with suppress(InputError):  # it ended the process
                answer = self._process.call(f"series {key[1]}", examine_quickly, question, self._rules)
                if answer is not None:
                    return answer
        self._probation = {addresses: until for addresses, until in self._probation.items() if until > at}
        self._probation[sender] = at + _PROBATION_SECONDS
        self._slow.submit(sender, key, question)
        return None

    def discard(self, key: Key) -> None:
        """Discard the answer on a series that is complete: a backlog may have very many."""
        self._answers.pop(key, None)

    def keep(self, keys: Collection[Key]) -> None:
        """Discard the answers on all other series; what they cost is remembered for ``_MAX_SECONDS`` more."""
        self._answers = {key: answer for key, answer in self._answers.items() if key in keys}
        self._slow.keep(keys)

"""Examinations that take long: one at a time, in a thread of their own, while the router goes on.

Senders take turns, so one whose series cost a minute each delays the slow series of others by one of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from node.errors import NodeError
from node.routing.series_examination import SeriesQuestion

Answer = TypeVar("Answer")

Key = tuple[str, str]
"""Study and Series Instance UID."""


@dataclass(frozen=True)
class SlowResult(Generic[Answer]):
    """How an examination ended."""

    question: SeriesQuestion
    outcome: Answer | NodeError


class SlowExaminations(Generic[Answer]):
    """Series that wait to be examined, by sender, and what came of those before."""

    def __init__(self, examine: Callable[[Key, SeriesQuestion], Answer]) -> None:
        """``examine``: has a process do the work; it may raise ``NodeError``."""
        self._examine = examine
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[Key, SeriesQuestion]] = {}
        """The sender whose turn it is comes first, and so does its oldest series."""
        self._running: Key | None = None
        self._results: dict[Key, SlowResult[Answer]] = {}

    def has(self, key: Key) -> bool:
        """Whether the series waits, or is being examined."""
        with self._lock:
            return key == self._running or any(key in of_sender for of_sender in self._waiting.values())

    def submit(self, sender: str, key: Key, question: SeriesQuestion) -> None:
        """Examine a series in its turn; a question about it that waits is replaced."""
        with self._lock:
            begins = self._running is None and not self._waiting
            self._waiting.setdefault(sender, {})[key] = question
            if begins:
                threading.Thread(target=self._run, name="slow examinations", daemon=True).start()

    def take(self, key: Key) -> SlowResult[Answer] | None:
        """Return what came of the last examination of a series, once; ``None``: nothing yet."""
        with self._lock:
            return self._results.pop(key, None)

    def keep(self, keys: Collection[Key]) -> None:
        """Discard what came of the examinations of other series."""
        with self._lock:
            self._results = {key: result for key, result in self._results.items() if key in keys}

    def _run(self) -> None:
        while (following := self._next()) is not None:
            key, question = following
            try:
                outcome: Answer | NodeError = self._examine(key, question)
            except NodeError as error:
                outcome = error
            except OSError:  # the router's process ends, and has closed what it had open
                return
            with self._lock:
                self._results[key] = SlowResult(question, outcome)

    def _next(self) -> tuple[Key, SeriesQuestion] | None:
        with self._lock:
            self._running = None
            if not self._waiting:
                return None
            sender = next(iter(self._waiting))
            of_sender = self._waiting.pop(sender)
            self._running = next(iter(of_sender))
            question = of_sender.pop(self._running)
            if of_sender:
                self._waiting[sender] = of_sender
            return self._running, question

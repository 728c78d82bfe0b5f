"""Turns: whose attempt of a stage this process takes next, when one of its slots is free.

Attempts are owned by their pipeline, in the stage deliver by their destination. The most urgent comes first; of equally
urgent ones that of the owner that has used the slots for the shortest time. Owners thus share the time, however many
attempts of each wait and however long one takes (fair queueing). In infer, pipelines whose last job failed share what
one pipeline gets, a tenth of it; one that fails again and again gets a turn only after a pause
(``node.ledger.pipeline_failures``). Until its turn an attempt stays in its queue: any process may take it, a more
urgent one of the same owner overtakes it, and no time limit runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from node.queues.attempt_queues import Waiting
from node.queues.local_queue import LocalQueue

logger = logging.getLogger(__name__)

_FAILED_ACCOUNT = ""
_SHORTEST = 1.0
"""Seconds that an attempt counts at least: owners of short ones take turns."""
_FAILED = 10.0
"""How many times the attempts of pipelines whose last job failed count."""
_LOOK_SECONDS = 0.5
_TAKING_SECONDS = 5.0
"""An attempt that is not taken within this time loses its turn."""
_TAKEN_SECONDS = 1.0
"""The same, when none waits any more: another process took it, unless this one is about to begin it."""


class AttemptAbandoned(BaseException):
    """Passes through DBOS without a trace: the workflow stays as a kill would leave it, and is recovered."""


class Shares:
    """How long each owner has used the slots; pipelines whose last job failed have one account together."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._least = 0.0
        """What the one had used that had used least of those that waited last."""

    def next_owner(self, waiting: Waiting) -> tuple[str, int] | None:
        """The owner whose turn it is, and the priority of its attempt; ``None`` when nothing waits."""
        urgent = {name: min(+of) for name, of in waiting.attempts.items() if +of}
        accounts = {name: _FAILED_ACCOUNT if name in waiting.failed else name for name in urgent}
        if not urgent:
            return None
        # Who did not wait for a while has saved nothing: it begins with what others had used at least.
        self._used |= {account: max(self._used.get(account, 0.0), self._least) for account in accounts.values()}
        self._least = min(self._used[account] for account in accounts.values())
        name = min(urgent, key=lambda name: (urgent[name], self._used[accounts[name]], self._used.get(name, 0.0), name))
        return name, urgent[name]

    def charge(self, owner: str, seconds: float, *, failed: bool) -> None:
        """Count what an attempt has used."""
        self._used[owner] = self._used.get(owner, 0.0) + seconds
        if failed:
            self._used[_FAILED_ACCOUNT] = self._used.get(_FAILED_ACCOUNT, 0.0) + _FAILED * seconds


@dataclass
class _OwnerTurns:
    """The turns of one owner in this process."""

    queue: LocalQueue
    taken: int = 0
    """Attempts that this process has taken and not ended."""
    turns: list[float] = field(default_factory=list)
    """When turns were given to it that no attempt has taken yet, in seconds of the monotonic clock."""

    def allow(self) -> None:
        self.queue.allow(self.taken + len(self.turns))


class Turns:
    """The slots of one process for one stage, shared by the owners. ``turn`` may be called by any thread."""

    def __init__(
        self,
        queue_of: Callable[[str], LocalQueue],
        owners: Collection[str],
        slots: int,
        waiting: Callable[[], Waiting],
        stopping: threading.Event,
    ) -> None:
        """``queue_of``: opens the queue of an owner, at once for ``owners``, for others with their first attempt.

        ``waiting``: reads which attempts may have a turn now. ``stopping``: this process ends; no more turns.
        """
        self._queue_of = queue_of
        self._owners: dict[str, _OwnerTurns] = {}
        for owner in owners:
            self._of(owner)
        self._slots = slots
        self._waiting = waiting
        self._stopping = stopping
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._changed = threading.Event()
        self._executing = 0
        self._shares = Shares()
        self._failed: Collection[str] = ()

    @contextmanager
    def turn(self, owner: str) -> Iterator[None]:
        """Occupy a slot while an attempt of ``owner`` is executed.

        DBOS may take one attempt too many, because it counts them as late as they begin: that one waits for a slot.
        Raises ``AttemptAbandoned`` when this process ends meanwhile.
        """
        with self._lock:
            its = self._of(owner)
            its.taken += 1
            if its.turns:
                its.turns.pop(0)
        try:
            self._occupy()
            begun = time.monotonic()
            try:
                yield
            finally:
                with self._lock:
                    more = max(time.monotonic() - begun - _SHORTEST, 0.0)
                    self._shares.charge(owner, more, failed=owner in self._failed)
                    self._executing -= 1
                    self._ended.notify()
        finally:
            with self._lock:
                its.taken -= 1
                its.allow()
            self._changed.set()

    def _of(self, owner: str) -> _OwnerTurns:
        if owner not in self._owners:
            self._owners[owner] = _OwnerTurns(self._queue_of(owner))
        return self._owners[owner]

    def _occupy(self) -> None:
        with self._lock:
            while self._executing >= self._slots:
                if self._stopping.is_set():
                    raise AttemptAbandoned
                self._ended.wait(_LOOK_SECONDS)
            self._executing += 1

    def give(self) -> None:
        """Give the free slots to the owners whose turn it is."""
        with self._lock:
            if self._free() <= 0 and not any(its.turns for its in self._owners.values()):
                return
        read = self._waiting()
        waiting = replace(read, attempts={name: Counter(of) for name, of in read.attempts.items()})
        at = time.monotonic()
        with self._lock:
            self._failed = waiting.failed
            for name, its in self._owners.items():
                self._withdraw(its, waiting.attempts.get(name, Counter()), at)
            while self._free() > 0 and (chosen := self._shares.next_owner(waiting)) is not None:
                name, priority = chosen
                waiting.attempts[name][priority] -= 1
                self._shares.charge(name, _SHORTEST, failed=name in self._failed)
                its = self._of(name)
                its.turns.append(at)
                its.allow()

    def run(self, seconds: float) -> None:
        """Give turns until this process ends: when a slot gets free, and at least this often."""
        while not self._stopping.is_set():
            try:
                self.give()
            except Exception as error:  # noqa: BLE001 - the actor's own loop
                logger.warning("jobs: turns were not given (%s); trying again", error)
                self._stopping.wait(seconds)
            self._changed.wait(seconds)
            self._changed.clear()

    def _withdraw(self, its: _OwnerTurns, waiting: Counter[int], at: float) -> None:
        """Take back turns that no attempt took, and leave those that are about to be taken out of ``waiting``."""
        patience = _TAKING_SECONDS if +waiting else _TAKEN_SECONDS
        its.turns = [since for since in its.turns if at - since < patience]
        for _ in its.turns:
            if +waiting:
                waiting[min(+waiting)] -= 1
        its.allow()

    def _free(self) -> int:
        return self._slots - sum(its.taken + len(its.turns) for its in self._owners.values())

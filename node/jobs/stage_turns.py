"""The turns of one stage in this process: those of attempts in shadow have slots of their own.

An attempt whose results are sent thus never waits for one in shadow, not even for its end. None in shadow has a turn
while another one waits for its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, Engine

from node.jobs.stage import Stage
from node.ledger.jobs import Attempt
from node.membership import Membership
from node.queues import attempt_queues
from node.queues.attempt_queues import Waiting
from node.queues.local_queue import LocalQueue
from node.queues.turns import Turns


class StageTurns:
    """Turns of the attempts in shadow, and of the others."""

    def __init__(
        self,
        engine: Engine,
        stage: Stage,
        membership: Membership,
        poll_seconds: float,
        stopping: threading.Event,
    ) -> None:
        """``poll_seconds``: between two looks into a queue; ``stopping``: this process ends; no more turns."""
        self._engine = engine
        self._stage = stage
        self._membership = membership
        self._poll_seconds = poll_seconds
        self._sent = self._turns(stage.slots, stopping, in_shadow=False)
        self._tried = self._turns(stage.shadow_slots, stopping, in_shadow=True)

    def of(self, attempt: Attempt) -> Turns:
        """The turns in which an attempt takes part."""
        return self._tried if attempt.in_shadow else self._sent

    def every(self) -> Iterator[tuple[str, Turns]]:
        """Both, each with the name of the thread that gives them."""
        yield f"turns of {self._stage.name}", self._sent
        yield f"turns of {self._stage.name} in shadow", self._tried

    def _turns(self, slots: int, stopping: threading.Event, *, in_shadow: bool) -> Turns:
        name, owners = self._stage.name, self._stage.owners

        def waiting() -> Waiting:
            if self._membership.is_drained or (in_shadow and not self._stage.takes_shadow()):
                return Waiting(attempts={})
            with self._engine.connect() as connection:
                backlog = self._waiting(connection, in_shadow=in_shadow)
                if not in_shadow or not backlog.attempts:  # mostly nothing is tried: then nobody else is looked at
                    return backlog
                others = self._waiting(connection).attempts.values()
                return Waiting(attempts={}) if any(map(Counter.total, others)) else backlog

        def queue_of(owner: str) -> LocalQueue:
            # It gives its attempt shortly after the turn, and asks the database only then.
            return LocalQueue(attempt_queues.owner_queue(name, owner, in_shadow=in_shadow), self._poll_seconds / 2, 0)

        # Queues of candidates are opened with their first attempt: most pipelines are never tried.
        return Turns(queue_of, () if in_shadow else owners, slots, waiting, stopping)

    def _waiting(self, connection: Connection, *, in_shadow: bool = False) -> Waiting:
        return attempt_queues.attempts_in_turn(connection, self._stage.name, self._stage.owners, in_shadow=in_shadow)

"""A stage of a job as the engine executes it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from node.config import JobsTable
from node.ledger import JobStage, transitions
from node.ledger.jobs import Retries


def _nothing(_alive: Collection[str] = ()) -> None: ...


def _always() -> bool:
    return True


def _never() -> float:
    return 0.0


class AttemptYielded(Exception):  # noqa: N818 - nothing went wrong
    """A handler lets other jobs go first; its attempt goes back into its queue and does not count as a failure."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        """``seconds``: after which it is tried again at the earliest."""
        super().__init__(why)
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a handler returns to the engine."""

    write: transitions.Write
    """Committed together with the end of the stage and the beginning of the next."""
    then: Callable[[], None] = _nothing
    """Called after the commit; a crash may skip it."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How this process executes one stage."""

    name: JobStage
    handler: Callable[[str, str], Done | None]
    """Called with job id and subject (destination for deliver, ``""`` else); after a crash once more."""
    retries: Retries
    seconds: float
    """Longest duration of one attempt; a longer one fails, and its slot is free for another job."""
    owners: tuple[str, ...] = ()
    """Pipelines, in deliver destinations, to whose attempts this process gives turns from its start.

    It gives them to those of others as well, except in infer, where they wait for a process that has their pipeline.
    """
    slots: int = 1
    """Attempts executed at the same time by one process, besides those in shadow."""
    shadow_slots: int = 1
    """Attempts in shadow executed at the same time by one process: no other ever waits for them."""
    takes_shadow: Callable[[], bool] = _always
    """Whether attempts in shadow may have a turn now."""
    paused_seconds: Callable[[], float] = _never
    """How long attempts in shadow had to pause until now: their time limit does not count it."""
    withdraw_shadow: Callable[[], None] = _nothing
    """Has attempts in shadow yield that are executed: this process takes no more work."""
    begin: Callable[[], None] = _nothing
    """Called once, before the first attempt."""
    tidy: Callable[[Collection[str]], None] = _nothing
    """Called now and then with the living members: removes what those that died have left."""
    interrupt: Callable[[], None] = _nothing
    """Makes running handlers return soon, by any exception: the process is about to end."""


def retries(table: JobsTable) -> Retries:
    """As ``[jobs]`` says, for the stages that this node computes."""
    return Retries(
        max_attempts=table.max_attempts,
        first_seconds=table.first_retry_seconds,
        max_seconds=table.max_retry_seconds,
    )

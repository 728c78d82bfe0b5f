"""Actors: loops that run in threads at regular intervals and survive errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def surviving(what: str) -> Iterator[None]:
    """Log any error inside with its traceback, and continue.

    For an actor's own loop only: there the next look may succeed, and the ledger holds nothing that is half done.
    ``what`` names the actor, and what it was about where one case must not hold up the others.
    """
    try:
        yield
    except Exception:
        logger.exception("%s failed; trying again", what)


def look_every(
    seconds: float, stop: threading.Event, name: str, look: Callable[[], object], *, first: float | None = None
) -> None:
    """Call ``look`` every ``seconds`` until ``stop`` is set; ``first``: after so many for the first time."""
    wait = seconds if first is None else first
    while not stop.wait(wait):
        with surviving(name):
            look()
        wait = seconds


@contextmanager
def running(loops: Sequence[Callable[[threading.Event], None]], stop: threading.Event) -> Iterator[None]:
    """Each of ``loops`` in a thread of its own; at the end waits until all have returned, as ``stop`` makes them."""
    threads = [threading.Thread(target=loop, args=(stop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()

"""The Storage SCP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.fleet.second_copy import SentCopies
from node.receive import Receiver
from node.roles.context import RoleContext


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Accept associations until the shutdown."""
    config, engine, spool = context.config, context.engine, context.spool
    copies = SentCopies(config.fleet, engine, spool) if config.storage.copies > 1 else None
    receiver = Receiver(config, engine, spool, context.membership, context.listening, copies=copies)
    receiver.start()
    yield
    receiver.finish(context.shutdown.forced)

"""Orders of the RIS (HL7 v2 over MLLP)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.orders.listener import OrderListener
from node.roles.context import RoleContext


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Accept messages until the shutdown."""
    with OrderListener(context.config, context.engine).serving():
        yield

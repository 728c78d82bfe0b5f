"""The files of this machine, for the other members of the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.actor import running
from node.fleet.role import serving_fleet
from node.roles.context import RoleContext
from node.roles.packing import packing_loops


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Serve files to the other machines until the shutdown."""
    stop = context.shutdown.requested
    with (
        serving_fleet(context.config, context.engine, context.spool, context.membership, stop),
        running(packing_loops(context), stop),
    ):
        yield

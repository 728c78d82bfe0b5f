"""What every role is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from node.config import Config
from node.jobs.engine import Jobs
from node.jobs.stage import Stage
from node.listening import Listening
from node.membership import Membership
from node.process.shutdown import ShutdownSignals
from node.spool import Spool


@dataclass(frozen=True)
class RoleContext:
    """Configuration and resources of a role."""

    config: Config
    engine: Engine
    spool: Spool
    shutdown: ShutdownSignals
    listening: Listening | None
    """Of receivers: the socket that they share."""
    membership: Membership


@contextmanager
def serving(context: RoleContext, role: str, stages: list[Stage]) -> Iterator[Jobs]:
    """Run the jobs of these stages until the role ends."""
    jobs = Jobs(context.engine)
    jobs.serve(role, stages, context.membership)
    yield jobs
    jobs.finish(context.shutdown.forced)

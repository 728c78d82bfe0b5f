"""What the roles that run jobs share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.jobs.engine import Jobs
from node.jobs.stage import Stage
from node.roles.context import RoleContext


@contextmanager
def serving(context: RoleContext, role: str, stages: list[Stage]) -> Iterator[Jobs]:
    """Run the jobs of these stages until the role ends."""
    jobs = Jobs(context.engine)
    jobs.serve(role, stages, context.membership)
    yield jobs
    jobs.finish(context.shutdown.forced)

"""The priority of a job: which of those that wait gets the next turn. An operator may change it."""

from __future__ import annotations

import sqlalchemy as sa

from node.errors import NodeError
from node.ledger.events import EventKind, record_event
from node.ledger.jobs import get_job
from node.ledger.prerequisites import needed_job
from node.ledger.states import ACTIVE, PRIORITIES
from node.ledger.tables import job


def change_priority(connection: sa.Connection, job_id: str, priority: str, operator: str = "") -> list[str]:
    """Change the priority of an open job, and raise that of the jobs whose results it waits for; return their ids.

    What is tried in shadow keeps its own, although it is waited for: it has turns of its own.

    ``priority``: one of ``PRIORITIES``. ``operator``: a user of the dashboard. Raises ``NotFoundError``, or
    ``NodeError`` when the job has ended, has that priority already or runs in shadow.
    """
    number, current = PRIORITIES[priority], get_job(connection, job_id)
    if current.state not in ACTIVE:
        raise NodeError(f"job {job_id} is {current.state}; only the priority of an open job can be changed")
    if current.shadow is not None:
        raise NodeError(f"job {job_id} runs in shadow, after all others; its priority cannot be changed")
    if current.priority == number:
        raise NodeError(f"job {job_id} has {priority} priority already")
    changed = [job_id]
    while (needed := needed_job(connection, changed[-1])) is not None:
        before = get_job(connection, needed)
        if before.state not in ACTIVE or before.priority <= number or before.shadow is not None:
            break
        changed.append(needed)
    connection.execute(sa.update(job).where(job.c.id.in_(changed)).values(priority=number))
    for changed_id in changed:
        record_event(connection, changed_id, EventKind.PRIORITY_CHANGED, operator=operator, priority=priority)
    return changed

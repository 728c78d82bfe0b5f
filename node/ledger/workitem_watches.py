"""Which workitems have changed since a subscriber was told of them, and which are new to it.

What a subscriber knows is compared with what is: no change is lost although the process that tells it is killed between
the change and the report, and a report that was sent is sent again when its answer was not recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.engine import among
from node.ledger.states import ACTIVE, JobState, ShadowCause, WorkitemState
from node.ledger.tables import delivery, job, workitem, workitem_watch
from node.ledger.workitem_subscriptions import Subscriber, WorkitemKey
from node.ledger.workitems import BY_REQUEST

_LATE_SECONDS = 120.0
"""How long after its time a change may be committed, and clocks of machines may differ."""
_ENDED = (JobState.COMPLETED, JobState.CANCELED)
_AGAIN = "?"
"""At the end of a reported state: the workitem had ended, has changed since, and is followed again."""
_FOLLOWED = sa.and_(
    sa.text("workitem_watch.subscribed"),
    workitem_watch.c.reported_state.not_in([sa.literal_column(f"'{state}'") for state in _ENDED]),
)
"""As the index of followed workitems has it: SQLite takes neither parameters nor ``subscribed = 1`` for the same."""
_IS_ACTIVE = job.c.state.in_(ACTIVE)
_IS_PENDING = workitem.c.state == sa.literal_column(f"'{WorkitemState.PENDING}'")
_IS_SHOWN = sa.and_(
    job.c.pipeline != FORWARD,
    sa.func.coalesce(job.c.shadow, "") != ShadowCause.TRIAL,
    ~job.c.rule.startswith(BY_REQUEST),
)
"""As ``node.ledger.workitem_progress`` shows jobs of the rules."""
_LAST_DELIVERY = sa.select(sa.func.max(delivery.c.updated_at)).where(delivery.c.job_id == job.c.id).scalar_subquery()
_SEEN = (
    sa.func.coalesce(workitem.c.updated_at, 0.0)
    + sa.func.coalesce(job.c.updated_at, 0.0)
    + sa.func.coalesce(_LAST_DELIVERY, 0.0)
)

_WITH_JOB = workitem_watch.outerjoin(workitem, workitem.c.uid == workitem_watch.c.uid).outerjoin(
    job, job.c.id == sa.func.coalesce(workitem.c.job_id, workitem_watch.c.job_id)
)
_AT_ONCE = 500
"""Keys of one query."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A workitem, and what its subscriber knows of it."""

    uid: str
    reported_state: str
    """Procedure Step State; empty: none."""
    reported_progress: str
    cancel: Sequence[Mapping[str, Any]]
    """Requests for cancellation that the subscriber does not know yet: who wants it, and why."""
    failures: int
    seen_before: float
    """As the row has it; differs when it has subscribed again meanwhile."""
    seen: float
    """Differs from that of the next look when anything of it changes meanwhile."""


def changed_watches(connection: sa.Connection, title: str, at: float, limit: int) -> list[Watch]:
    """Return workitems that an AE is subscribed to and that have changed since it was told of them."""
    of_title = (workitem_watch.c.title == title, workitem_watch.c.due_at <= at)
    columns = (
        *workitem_watch.c["uid", "reported_state", "reported_progress", "cancel", "failures"],
        workitem_watch.c.seen.label("seen_before"),
        _SEEN.label("seen"),
    )
    every = sa.select(*columns).select_from(_WITH_JOB)
    queries = (
        every.where(*of_title, workitem_watch.c.subscribed, workitem_watch.c.cancel.is_not(None)),
        every.where(*of_title, _FOLLOWED, workitem_watch.c.seen != _SEEN),
    )
    watches: dict[str, Watch] = {}
    for query in queries:
        for row in connection.execute(query.limit(limit)).mappings():
            state = row["reported_state"].removesuffix(_AGAIN)
            values = {**row, "reported_state": state, "cancel": row["cancel"] or ()}
            watches.setdefault(row["uid"], Watch(**values))
    return list(watches.values())


def begun_again(connection: sa.Connection, of: Subscriber, at: float, limit: int) -> list[str]:
    """Return UIDs of workitems whose end a subscriber knows, and that have changed since its last look.

    Jobs that are active or have ended since are looked up, not the many workitems that have ended for good. One table
    is read at a time: a planner without statistics would begin a join with all workitems of the subscriber.
    """
    since = min(of.looked_at, at) - _LATE_SECONDS
    jobs = sa.select(job.c.id)
    job_ids = list(connection.scalars(jobs.where(_IS_ACTIVE)))
    job_ids += connection.scalars(jobs.where(job.c.state.in_(_ENDED), job.c.updated_at > since))
    uids = list(connection.scalars(sa.select(workitem.c.uid).where(_IS_PENDING)))
    for some in _portions(job_ids):
        uids += connection.scalars(sa.select(workitem.c.uid).where(among(connection, workitem.c.job_id, some)))
    changed = (
        sa.select(workitem_watch.c.title, workitem_watch.c.uid)
        .select_from(_WITH_JOB)
        .where(workitem_watch.c.subscribed, workitem_watch.c.reported_state.in_(_ENDED))
        .where(workitem_watch.c.seen != _SEEN)
    )
    workitems: list[str] = []
    for column, keys in ((workitem_watch.c.job_id, job_ids), (workitem_watch.c.uid, uids)):
        for some in _portions(keys):
            rows = connection.execute(changed.where(among(connection, column, some)))
            workitems += [uid for title, uid in rows if title == of.title]
            if len(workitems) >= limit:
                return workitems[:limit]
    return workitems


def follow_again(connection: sa.Connection, title: str, uids: Collection[str]) -> None:
    """Follow workitems whose end a subscriber knows until it is told how far they are."""
    ended = (workitem_watch.c.title == title, workitem_watch.c.reported_state.in_(_ENDED))
    followed = sa.update(workitem_watch).where(*ended, among(connection, workitem_watch.c.uid, uids))
    connection.execute(followed.values(reported_state=workitem_watch.c.reported_state + _AGAIN))


def new_workitems(connection: sa.Connection, of: Subscriber, limit: int) -> list[WorkitemKey]:
    """Return workitems that have not ended, or have since the last look, and that a subscriber of all does not know.

    UIDs of those of the rules are empty: they are made of the id of the job.
    """
    subscribed = [at for at in (of.every_since, of.matching_since) if at is not None]
    if not subscribed:
        return []
    since = max(of.looked_at - _LATE_SECONDS, min(subscribed))
    known = sa.exists().where(workitem_watch.c.title == of.title)
    unknown_job = (_IS_SHOWN, ~known.where(workitem_watch.c.job_id == job.c.id))
    unknown = ~known.where(workitem_watch.c.uid == workitem.c.uid)
    jobs = sa.select(sa.literal("").label("uid"), job.c.id.label("job_id"), job.c.study_instance_uid)
    requests = sa.select(workitem.c.uid, sa.literal("").label("job_id"), workitem.c.study_instance_uid)
    queries = (
        requests.where(_IS_PENDING, unknown),
        requests.where(workitem.c.requested_at > since, unknown),
        requests.join(job, job.c.id == workitem.c.job_id).where(_IS_ACTIVE, unknown),
        jobs.where(_IS_ACTIVE, *unknown_job),
        jobs.where(job.c.state.in_(_ENDED), job.c.updated_at > since, *unknown_job),
    )
    workitems = [WorkitemKey(**row) for query in queries for row in connection.execute(query.limit(limit)).mappings()]
    return list(dict.fromkeys(workitems))


def record_reported(connection: sa.Connection, title: str, of: Watch, state: str, progress: str) -> None:
    """Keep that a subscriber knows how far a workitem is, unless it has subscribed again since ``of`` was read.

    Requests for cancellation that came meanwhile stay.
    """
    reported = {"reported_state": state, "reported_progress": progress, "seen": of.seen, "failures": 0, "due_at": 0.0}
    row = (workitem_watch.c.title == title, workitem_watch.c.uid == of.uid)
    connection.execute(
        sa.update(workitem_watch).where(*row, workitem_watch.c.seen == of.seen_before).values(**reported)
    )
    if of.cancel:
        waiting = connection.scalar(sa.select(workitem_watch.c.cancel).where(*row).with_for_update()) or []
        _set(
            connection, title, of.uid, {"cancel": [request for request in waiting if request not in of.cancel] or None}
        )


def put_off_watch(connection: sa.Connection, title: str, uid: str, due_at: float) -> None:
    """Keep that a subscriber has refused a report on a workitem."""
    _set(connection, title, uid, {"failures": workitem_watch.c.failures + 1, "due_at": due_at})


def _set(connection: sa.Connection, title: str, uid: str, values: Mapping[str, object]) -> None:
    of = (workitem_watch.c.title == title, workitem_watch.c.uid == uid)
    connection.execute(sa.update(workitem_watch).where(*of).values(**values))


def _portions(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[begin : begin + _AT_ONCE] for begin in range(0, len(keys), _AT_ONCE)]

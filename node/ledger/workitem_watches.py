"""Which workitems have changed since a subscriber was told of them, and which are new to it.

What a subscriber knows is compared with what is: no change is lost although the process that tells it is killed between
the change and the report, and a report that was sent is sent again when its answer was not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.states import ACTIVE, JobState, ShadowCause, WorkitemState
from node.ledger.tables import delivery, job, workitem, workitem_watch
from node.ledger.workitem_subscriptions import Subscriber, WorkitemKey
from node.ledger.workitems import BY_REQUEST

_LATE_SECONDS = 120.0
"""How long after its time a change may be committed, and clocks of machines may differ."""
_FOLLOWED = sa.and_(
    workitem_watch.c.subscribed,
    workitem_watch.c.reported_state.not_in(
        [sa.literal_column(f"'{state}'") for state in (JobState.COMPLETED, JobState.CANCELED)]
    ),
)
"""With literals, for which the index of followed workitems serves."""
_IS_ACTIVE = job.c.state.in_(ACTIVE)
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


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A workitem, and what its subscriber knows of it."""

    uid: str
    reported_state: str
    """Procedure Step State; empty: none."""
    reported_progress: str
    cancel: Mapping[str, Any] | None
    """Who wants it to be canceled, and why, when the subscriber does not know it yet."""
    failures: int
    seen: float
    """Differs from that of the next look when anything of it changes meanwhile."""


def changed_watches(connection: sa.Connection, title: str, at: float, limit: int) -> list[Watch]:
    """Return workitems that an AE is subscribed to and that have changed since it was told of them."""
    of_title = (workitem_watch.c.title == title, workitem_watch.c.due_at <= at)
    has_changed = workitem_watch.c.seen != _SEEN
    columns = (
        *workitem_watch.c["uid", "reported_state", "reported_progress", "cancel", "failures"],
        _SEEN.label("seen"),
    )
    performer = sa.func.coalesce(workitem.c.job_id, workitem_watch.c.job_id)
    every = sa.select(*columns).select_from(
        workitem_watch.outerjoin(workitem, workitem.c.uid == workitem_watch.c.uid).outerjoin(job, job.c.id == performer)
    )
    of_rules = sa.select(*columns).select_from(
        job.join(workitem_watch, workitem_watch.c.job_id == job.c.id).outerjoin(
            workitem, workitem.c.uid == workitem_watch.c.uid
        )
    )
    requested = sa.select(*columns).select_from(
        job.join(workitem, workitem.c.job_id == job.c.id).join(workitem_watch, workitem_watch.c.uid == workitem.c.uid)
    )
    begun_again = (*of_title, _IS_ACTIVE, workitem_watch.c.subscribed, ~_FOLLOWED, has_changed)
    queries = (
        every.where(*of_title, workitem_watch.c.subscribed, workitem_watch.c.cancel.is_not(None)),
        every.where(*of_title, _FOLLOWED, has_changed),
        of_rules.where(*begun_again),
        requested.where(*begun_again),
    )
    found: dict[str, Watch] = {}
    for query in queries:
        for row in connection.execute(query.limit(limit)).mappings():
            found.setdefault(row["uid"], Watch(**row))
    return list(found.values())


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
    is_pending = workitem.c.state == sa.literal_column(f"'{WorkitemState.PENDING}'")
    queries = (
        requests.where(is_pending, unknown),
        requests.where(workitem.c.requested_at > since, unknown),
        requests.join(job, job.c.id == workitem.c.job_id).where(_IS_ACTIVE, unknown),
        jobs.where(_IS_ACTIVE, *unknown_job),
        jobs.where(job.c.state.in_((JobState.COMPLETED, JobState.CANCELED)), job.c.updated_at > since, *unknown_job),
    )
    found = [WorkitemKey(**row) for query in queries for row in connection.execute(query.limit(limit)).mappings()]
    return list(dict.fromkeys(found))


def record_reported(connection: sa.Connection, title: str, of: Watch, state: str, progress: str) -> None:
    """Keep that a subscriber knows how far a workitem is; a request for cancellation that came meanwhile stays."""
    told = {"reported_state": state, "reported_progress": progress, "seen": of.seen}
    _set(connection, title, of.uid, {**told, "failures": 0, "due_at": 0.0})
    if of.cancel is not None:
        _set(connection, title, of.uid, {"cancel": None})


def put_off_watch(connection: sa.Connection, title: str, uid: str, due_at: float) -> None:
    """Keep that a subscriber has refused a report on a workitem."""
    _set(connection, title, uid, {"failures": workitem_watch.c.failures + 1, "due_at": due_at})


def _set(connection: sa.Connection, title: str, uid: str, values: Mapping[str, object]) -> None:
    of = (workitem_watch.c.title == title, workitem_watch.c.uid == uid)
    connection.execute(sa.update(workitem_watch).where(*of).values(**values))

"""Subscriptions to workitems (PS3.4 CC.2.3): who is told of which, and when the next attempt is due.

A subscriber has a row, and one more for each workitem that it is told of: what it knows. Nothing else is kept for it:
a subscriber that is away takes no more room than one that listens. ``node.ledger.workitem_watches`` finds the workitems
that are new to a subscriber of all, or of those that match its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.clock_steps import is_ahead
from node.ledger.engine import insert_new
from node.ledger.tables import workitem_subscriber, workitem_watch
from node.peer_text import escaped

_LONGEST_REASON = 4000
"""Characters of a reason; with the number of the others it is short enough to be kept again as it is."""
_MOST_REQUESTS = 20
"""Requests for cancellation of a workitem that wait for a subscriber."""


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """One row of ``workitem_subscriber``."""

    title: str
    websocket: bool
    """It receives events over a WebSocket that it opens; else on associations that this node opens."""
    every_since: float | None
    matching_since: float | None
    keys: Mapping[str, Any] | None
    looked_at: float
    failures: int
    due_at: float
    error: str


@dataclass(frozen=True, kw_only=True)
class WorkitemKey:
    """A workitem that an AE can be told of."""

    uid: str
    study_instance_uid: str
    job_id: str
    """Of a workitem of the rules; empty: it was requested."""


def subscribe_to_all(connection: sa.Connection, title: str, *, websocket: bool = False) -> None:
    """Subscribe an AE to all workitems, those of the future too; it is told again of those that it knows."""
    _renew(connection, title, every_since=ledger_clock(connection), websocket=websocket)


def subscribe_to_matching(
    connection: sa.Connection, title: str, keys: Mapping[str, Any], *, websocket: bool = False
) -> None:
    """Subscribe an AE to all workitems that match ``keys``, in place of those that matched the keys of before."""
    _renew(connection, title, matching_since=ledger_clock(connection), keys=dict(keys), websocket=websocket)


def subscribe(connection: sa.Connection, title: str, of: WorkitemKey, *, websocket: bool = False) -> None:
    """Subscribe an AE to one workitem; it is told of its state, also when it was before."""
    _add_subscriber(connection, title)
    reset_subscriber(connection, title)
    _set(connection, title, {"websocket": websocket})
    if not add_watch(connection, title, of, is_subscribed=True):
        renewed = sa.update(workitem_watch).where(_is(title, of.uid))
        connection.execute(renewed.values(subscribed=True, **_nothing_known(connection)))


def unsubscribe(connection: sa.Connection, title: str, of: WorkitemKey) -> None:
    """Tell an AE no more of one workitem, also when it is subscribed to all."""
    connection.execute(sa.delete(workitem_watch).where(_is(title, of.uid)))
    known = subscriber(connection, title)
    if known is not None and (known.every_since is not None or known.matching_since is not None):
        add_watch(connection, title, of, is_subscribed=False)
        return
    is_rest = sa.select(workitem_watch.c.uid).where(workitem_watch.c.title == title, workitem_watch.c.subscribed)
    if connection.execute(is_rest.limit(1)).first() is None:
        connection.execute(sa.delete(workitem_watch).where(workitem_watch.c.title == title))
        connection.execute(sa.delete(workitem_subscriber).where(workitem_subscriber.c.title == title))


def suspend(connection: sa.Connection, title: str, *, matching: bool) -> None:
    """Subscribe an AE to no more workitems; it is told of those that it is subscribed to."""
    values = {"matching_since": None} if matching else {"every_since": None}
    of_title = workitem_subscriber.c.title == title
    connection.execute(sa.update(workitem_subscriber).where(of_title).values(**values))


def unsubscribe_from_all(connection: sa.Connection, title: str, *, matching: bool) -> None:
    """End a subscription to all workitems, or those that match, and the ones to single workitems with it."""
    suspend(connection, title, matching=matching)
    connection.execute(sa.delete(workitem_watch).where(workitem_watch.c.title == title))
    is_rest = (workitem_subscriber.c.every_since.is_(None), workitem_subscriber.c.matching_since.is_(None))
    connection.execute(sa.delete(workitem_subscriber).where(workitem_subscriber.c.title == title, *is_rest))


def subscriber(connection: sa.Connection, title: str) -> Subscriber | None:
    """Return a subscriber; ``None``: the AE is none."""
    row = connection.execute(sa.select(workitem_subscriber).where(workitem_subscriber.c.title == title))
    found = row.mappings().first()
    return None if found is None else Subscriber(**found)


def due_subscribers(connection: sa.Connection, at: float) -> list[Subscriber]:
    """Return those that are told at ``at``, all but those that did not answer a short time ago; failed ones last."""
    is_due = sa.or_(workitem_subscriber.c.due_at <= at, is_ahead(workitem_subscriber.c.looked_at))
    order = (workitem_subscriber.c.failures, workitem_subscriber.c.title)
    rows = connection.execute(sa.select(workitem_subscriber).where(is_due).order_by(*order))
    return [Subscriber(**row) for row in rows.mappings()]


def put_off_subscriber(connection: sa.Connection, of: Subscriber, error: str, due_at: float) -> None:
    """Keep that a subscriber did not answer, unless it has subscribed again since ``of`` was read."""
    values = {"failures": of.failures + 1, "error": error, "due_at": due_at}
    is_same = (workitem_subscriber.c.title == of.title, workitem_subscriber.c.failures == of.failures)
    connection.execute(sa.update(workitem_subscriber).where(*is_same).values(**values))


def reset_subscriber(connection: sa.Connection, title: str) -> None:
    """Keep that a subscriber has answered, or has subscribed again."""
    _set(connection, title, {"failures": 0, "error": "", "due_at": 0.0})


def set_looked_at(connection: sa.Connection, title: str, at: float) -> None:
    """Keep when the ledger was searched for workitems that are new to a subscriber."""
    _set(connection, title, {"looked_at": at})


def ask_subscribers_to_cancel(
    connection: sa.Connection, of: WorkitemKey, who: str, reason: str, is_wanted: Callable[[Subscriber], bool]
) -> None:
    """Keep for the subscribers of a workitem that ``who`` wants it to be canceled.

    ``is_wanted``: whether a subscriber of all, or of those that match, is subscribed to it, which may be new to it.
    """
    is_global = sa.or_(
        workitem_subscriber.c.every_since.is_not(None), workitem_subscriber.c.matching_since.is_not(None)
    )
    for row in connection.execute(sa.select(workitem_subscriber).where(is_global)).mappings().all():
        if is_wanted(Subscriber(**row)):
            add_watch(connection, row["title"], of, is_subscribed=True)
    request = {"who": escaped(who), "reason": escaped(reason, _LONGEST_REASON)}
    told = sa.select(workitem_watch.c.title, workitem_watch.c.cancel)
    told = told.where(workitem_watch.c.uid == of.uid, workitem_watch.c.subscribed).with_for_update()
    for title, waiting in connection.execute(told).all():
        requests = list(waiting or [])
        if request not in requests and len(requests) < _MOST_REQUESTS:
            changed = sa.update(workitem_watch).where(_is(title, of.uid))
            connection.execute(changed.values(cancel=[*requests, request]))


def add_watch(connection: sa.Connection, title: str, of: WorkitemKey, *, is_subscribed: bool) -> bool:
    """Add what a subscriber knows of a workitem: nothing. ``False``: it knows it already, nothing is changed."""
    row = {
        "title": title,
        "uid": of.uid,
        "study_instance_uid": of.study_instance_uid,
        "job_id": of.job_id,
        "subscribed": is_subscribed,
        "cancel": None,
    }
    return bool(insert_new(connection, workitem_watch, [row | _nothing_known(connection)]))


def _renew(connection: sa.Connection, title: str, **values: object) -> None:
    _add_subscriber(connection, title)
    reset_subscriber(connection, title)
    _set(connection, title, values)
    of_title = workitem_watch.c.title == title
    connection.execute(sa.delete(workitem_watch).where(of_title, ~workitem_watch.c.subscribed))
    connection.execute(sa.update(workitem_watch).where(of_title).values(**_nothing_known(connection)))


def _nothing_known(connection: sa.Connection) -> dict[str, object]:
    """What a subscriber knows that has just subscribed.

    ``seen`` is below every sum of times, and differs between two subscriptions: reports to the first one are not taken
    for reports to the second one.
    """
    told = {"reported_state": "", "reported_progress": ""}
    return {**told, "seen": -ledger_clock(connection), "failures": 0, "due_at": 0.0}


def _add_subscriber(connection: sa.Connection, title: str) -> None:
    nothing = {"every_since": None, "matching_since": None, "keys": None, "failures": 0, "due_at": 0.0, "error": ""}
    row = {"title": title, "websocket": False, **nothing, "looked_at": ledger_clock(connection)}
    insert_new(connection, workitem_subscriber, [row])


def _set(connection: sa.Connection, title: str, values: Mapping[str, object]) -> None:
    connection.execute(sa.update(workitem_subscriber).where(workitem_subscriber.c.title == title).values(**values))


def _is(title: str, uid: str) -> sa.ColumnElement[bool]:
    return sa.and_(workitem_watch.c.title == title, workitem_watch.c.uid == uid)

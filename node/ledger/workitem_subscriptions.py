"""Subscriptions to workitems (PS3.4 CC.2.3): who is told of which, and when the next attempt is due.

A subscriber has a row, and one more for each workitem that it is told of: what it knows. Nothing else is kept for it:
a subscriber that is away takes no more room than one that listens. ``node.ledger.workitem_watches`` finds the workitems
that are new to a subscriber of all, or of those that match its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.clock_steps import is_ahead
from node.ledger.engine import insert_new
from node.ledger.tables import workitem_subscriber, workitem_watch


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """One row of ``workitem_subscriber``."""

    title: str
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


def subscribe_to_all(connection: sa.Connection, title: str) -> None:
    """Subscribe an AE to all workitems, those of the future too; it is told again of those that it knows."""
    _renew(connection, title, every_since=ledger_clock(connection))


def subscribe_to_matching(connection: sa.Connection, title: str, keys: Mapping[str, Any]) -> None:
    """Subscribe an AE to all workitems that match ``keys``, in place of those that matched the keys of before."""
    _renew(connection, title, matching_since=ledger_clock(connection), keys=dict(keys))


def subscribe(connection: sa.Connection, title: str, of: WorkitemKey) -> None:
    """Subscribe an AE to one workitem; it is told of its state, also when it was before."""
    _add_subscriber(connection, title)
    _set(connection, title, {"due_at": 0.0})
    connection.execute(sa.delete(workitem_watch).where(_is(title, of.uid)))
    add_watch(connection, title, of, is_subscribed=True)


def unsubscribe(connection: sa.Connection, title: str, of: WorkitemKey) -> None:
    """Tell an AE no more of one workitem, also when it is subscribed to all."""
    connection.execute(sa.delete(workitem_watch).where(_is(title, of.uid)))
    known = subscriber(connection, title)
    if known is not None and (known.every_since is not None or known.matching_since is not None):
        add_watch(connection, title, of, is_subscribed=False)


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
    """Return those that are told at ``at``: all but those that did not answer a short time ago."""
    is_due = sa.or_(workitem_subscriber.c.due_at <= at, is_ahead(workitem_subscriber.c.looked_at))
    rows = connection.execute(sa.select(workitem_subscriber).where(is_due).order_by(workitem_subscriber.c.title))
    return [Subscriber(**row) for row in rows.mappings()]


def put_off_subscriber(connection: sa.Connection, title: str, error: str, due_at: float) -> None:
    """Keep that a subscriber did not answer."""
    values = {"failures": workitem_subscriber.c.failures + 1, "error": error, "due_at": due_at}
    _set(connection, title, values)


def reset_subscriber(connection: sa.Connection, title: str) -> None:
    """Keep that a subscriber has answered."""
    _set(connection, title, {"failures": 0, "error": "", "due_at": 0.0})


def set_looked_at(connection: sa.Connection, title: str, at: float) -> None:
    """Keep when the ledger was searched for workitems that are new to a subscriber."""
    _set(connection, title, {"looked_at": at})


def ask_subscribers_to_cancel(connection: sa.Connection, uid: str, who: str, reason: str) -> None:
    """Keep for the subscribers of a workitem that ``who`` wants it to be canceled."""
    told = (workitem_watch.c.uid == uid, workitem_watch.c.subscribed)
    connection.execute(sa.update(workitem_watch).where(*told).values(cancel={"who": who, "reason": reason}))


def add_watch(connection: sa.Connection, title: str, of: WorkitemKey, *, is_subscribed: bool) -> None:
    """Add what a subscriber knows of a workitem: nothing. Nothing is changed when it knows it already."""
    row = {
        "title": title,
        "uid": of.uid,
        "study_instance_uid": of.study_instance_uid,
        "job_id": of.job_id,
        "subscribed": is_subscribed,
        "reported_state": "",
        "reported_progress": "",
        "seen": 0.0,
        "cancel": None,
        "failures": 0,
        "due_at": 0.0,
    }
    insert_new(connection, workitem_watch, [row])


def _renew(connection: sa.Connection, title: str, **values: object) -> None:
    _add_subscriber(connection, title)
    _set(connection, title, {**values, "due_at": 0.0})
    of_title = workitem_watch.c.title == title
    connection.execute(sa.delete(workitem_watch).where(of_title, ~workitem_watch.c.subscribed))
    connection.execute(
        sa.update(workitem_watch).where(of_title).values(reported_state="", reported_progress="", seen=0.0)
    )


def _add_subscriber(connection: sa.Connection, title: str) -> None:
    row = {"every_since": None, "matching_since": None, "keys": None, "failures": 0, "due_at": 0.0, "error": ""}
    insert_new(connection, workitem_subscriber, [{"title": title, **row, "looked_at": ledger_clock(connection)}])


def _set(connection: sa.Connection, title: str, values: Mapping[str, object]) -> None:
    connection.execute(sa.update(workitem_subscriber).where(workitem_subscriber.c.title == title).values(**values))


def _is(title: str, uid: str) -> sa.ColumnElement[bool]:
    return sa.and_(workitem_watch.c.title == title, workitem_watch.c.uid == uid)

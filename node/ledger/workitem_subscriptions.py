"""Subscriptions to workitems (PS3.4 CC.2.3): who is told of which, and when the next attempt is due.

A subscriber has a row, and one more for each workitem that it is told of: what it knows. Nothing else is kept for it:
a subscriber that is away takes no more room than one that listens. ``node.ledger.workitem_watches`` finds the workitems
that are new to a subscriber of all, or of those that match its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.clock_steps import is_ahead
from node.ledger.engine import among, insert_new
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
    every_locked: bool
    """Workitems that are new to its subscription to all get a deletion lock."""
    matching_locked: bool
    """The same of its subscription to those that match."""
    every_since: float | None
    matching_since: float | None
    keys: Mapping[str, Any] | None
    looked_at: float
    failures: int
    due_at: float
    error: str

    @property
    def locks(self) -> bool:
        """Whether workitems that are new to its global subscription get a deletion lock."""
        return self.every_locked if self.every_since is not None else self.matching_locked


@dataclass(frozen=True, kw_only=True)
class WorkitemKey:
    """A workitem that an AE can be told of."""

    uid: str
    study_instance_uid: str
    job_id: str
    """Of a workitem of the rules; empty: it was requested."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a new subscription asks for."""

    websocket: bool = False
    """Events go over a WebSocket."""
    locked: bool = False
    """Its workitems are kept for longer after they have ended (Deletion Lock, PS3.4 CC.2.3)."""


PLAIN = Terms()
"""Of a subscription that asks for nothing special."""


def subscribe_to_all(connection: sa.Connection, title: str, terms: Terms = PLAIN) -> None:
    """Subscribe an AE to all workitems, those of the future too; it is told again of those that it knows."""
    at = ledger_clock(connection)
    _renew(connection, title, terms, every_since=at, every_locked=terms.locked)


def subscribe_to_matching(connection: sa.Connection, title: str, keys: Mapping[str, Any], terms: Terms = PLAIN) -> None:
    """Subscribe an AE to all workitems that match ``keys``, in place of those that matched the keys of before."""
    at = ledger_clock(connection)
    _renew(connection, title, terms, matching_since=at, matching_locked=terms.locked, keys=dict(keys))


def subscribe(connection: sa.Connection, title: str, of: WorkitemKey, terms: Terms = PLAIN) -> None:
    """Subscribe an AE to one workitem; it is told of its state, also when it was before."""
    _add_subscriber(connection, title)
    reset_subscriber(connection, title)
    _set(connection, title, {"websocket": terms.websocket})
    if not add_watch(connection, title, of, is_subscribed=True, is_locked=terms.locked):
        renewed = sa.update(workitem_watch).where(_is(title, of.uid))
        connection.execute(renewed.values(subscribed=True, locked=terms.locked, **_nothing_known(connection)))


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
    values = row.mappings().first()
    return None if values is None else Subscriber(**values)


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
            add_watch(connection, row["title"], of, is_subscribed=True, is_locked=Subscriber(**row).locks)
    request = {"who": escaped(who), "reason": escaped(reason, _LONGEST_REASON)}
    watches = sa.select(workitem_watch.c.title, workitem_watch.c.cancel)
    watches = watches.where(workitem_watch.c.uid == of.uid, workitem_watch.c.subscribed).with_for_update()
    for title, waiting in connection.execute(watches).all():
        requests = list(waiting or [])
        if request not in requests and len(requests) < _MOST_REQUESTS:
            changed = sa.update(workitem_watch).where(_is(title, of.uid))
            connection.execute(changed.values(cancel=[*requests, request]))


def locked_studies(connection: sa.Connection, studies: Collection[str] | None = None) -> set[str]:
    """Return the studies with a workitem that a subscriber has locked, of some or of all."""
    locked = sa.select(workitem_watch.c.study_instance_uid).where(sa.text("workitem_watch.locked"))
    if studies is not None:
        locked = locked.where(among(connection, workitem_watch.c.study_instance_uid, studies))
    return set(connection.scalars(locked))


def add_watch(
    connection: sa.Connection, title: str, of: WorkitemKey, *, is_subscribed: bool, is_locked: bool = False
) -> bool:
    """Add what a subscriber knows of a workitem: nothing. ``False``: it knows it already, nothing is changed."""
    row = {
        "title": title,
        "uid": of.uid,
        "study_instance_uid": of.study_instance_uid,
        "job_id": of.job_id,
        "subscribed": is_subscribed,
        "locked": is_locked,
        "cancel": None,
    }
    return bool(insert_new(connection, workitem_watch, [row | _nothing_known(connection)]))


def _renew(connection: sa.Connection, title: str, terms: Terms, **values: object) -> None:
    """A lock of a workitem stays until the subscriber ends it, though a global subscription is made without one."""
    _add_subscriber(connection, title)
    reset_subscriber(connection, title)
    _set(connection, title, {**values, "websocket": terms.websocket})
    of_title = workitem_watch.c.title == title
    connection.execute(sa.delete(workitem_watch).where(of_title, ~workitem_watch.c.subscribed))
    locked = {"locked": True} if terms.locked else {}
    connection.execute(sa.update(workitem_watch).where(of_title).values(**locked, **_nothing_known(connection)))


def _nothing_known(connection: sa.Connection) -> dict[str, object]:
    """What a subscriber knows that has just subscribed.

    ``seen`` is below every sum of times, and differs between two subscriptions: reports to the first one are not taken
    for reports to the second one.
    """
    reported = {"reported_state": "", "reported_progress": ""}
    return {**reported, "seen": -ledger_clock(connection), "failures": 0, "due_at": 0.0}


def _add_subscriber(connection: sa.Connection, title: str) -> None:
    nothing = {"every_since": None, "matching_since": None, "keys": None, "failures": 0, "due_at": 0.0, "error": ""}
    nothing |= {"websocket": False, "every_locked": False, "matching_locked": False}
    row = {"title": title, **nothing, "looked_at": ledger_clock(connection)}
    insert_new(connection, workitem_subscriber, [row])


def _set(connection: sa.Connection, title: str, values: Mapping[str, object]) -> None:
    connection.execute(sa.update(workitem_subscriber).where(workitem_subscriber.c.title == title).values(**values))


def _is(title: str, uid: str) -> sa.ColumnElement[bool]:
    return sa.and_(workitem_watch.c.title == title, workitem_watch.c.uid == uid)

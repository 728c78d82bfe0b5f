"""Queries of the Modality Worklist: which studies lack an order, and what the worklist answered.

The router asks by adding a row, the sender answers it in the transaction that adds the orders: a process that is killed
in between asks again, and nothing is there twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock_steps import passed
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_study_event
from node.ledger.new_orders import NewOrder
from node.ledger.order_keys import OrderKeys
from node.ledger.orders import orders_of
from node.ledger.states import WorklistState
from node.ledger.tables import worklist_query
from node.ledger.worklist_orders import record_worklist_orders
from node.reasons import Reason

_KEYS = tuple(OrderKeys.__dataclass_fields__)
_PENDING = worklist_query.c.state == sa.literal_column(f"'{WorklistState.PENDING}'")
"""As a literal, for which the index of pending queries serves."""


@dataclass(frozen=True, kw_only=True)
class WorklistQuery:
    """One row of ``worklist_query``."""

    keys: OrderKeys
    """What the images say."""
    study_date: str = ""
    """``YYYYMMDD``; empty: not known."""
    modality: str = ""
    state: WorklistState = WorklistState.PENDING
    reason: Reason | None = None
    failures: int = 0
    asked_at: float
    due_at: float = 0.0
    answered_at: float | None = None

    @property
    def id(self) -> str:
        """A digest of the key of the row."""
        parts = (self.keys.study_instance_uid, self.keys.accession, self.keys.patient_id)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PendingQueries:
    """Studies for which the worklist has not answered at least once."""

    studies: int
    since: float
    reason: Reason | None


def ask_worklist(connection: sa.Connection, wanted: WorklistQuery) -> WorklistQuery:
    """Return the query with the same key, which is added unless it exists."""
    keys = vars(wanted.keys)
    row = vars(wanted) | keys | {"due_at": wanted.asked_at}
    del row["keys"]
    insert_new(connection, worklist_query, [row])
    return _query(connection.execute(sa.select(worklist_query).where(_is(wanted))).mappings().one())


def query_like(connection: sa.Connection, wanted: WorklistQuery) -> WorklistQuery | None:
    """Return the query with the same key; ``None`` when it was not asked."""
    row = connection.execute(sa.select(worklist_query).where(_is(wanted))).mappings().first()
    return None if row is None else _query(row)


def due_queries(connection: sa.Connection, at: float, limit: int) -> list[WorklistQuery]:
    """Return queries whose next attempt is due, those of the latest studies first."""
    query = sa.select(worklist_query).where(_PENDING, passed(worklist_query.c.due_at, at))
    latest = query.order_by(worklist_query.c.asked_at.desc()).limit(limit)
    return [_query(row) for row in connection.execute(latest).mappings()]


def give_up_queries(connection: sa.Connection, before: float, at: float) -> int:
    """End the queries that were asked before ``before`` and have no answer; return how many."""
    old = sa.select(worklist_query).where(_PENDING, worklist_query.c.asked_at <= before)
    given_up = [_query(row) for row in connection.execute(old).mappings()]
    for query in given_up:
        _end(connection, query, WorklistState.UNANSWERED, query.reason, at)
    return len(given_up)


def put_off_queries(
    connection: sa.Connection, queries: Collection[WorklistQuery], why: Reason, at: float, seconds: float
) -> None:
    """Record a failed attempt; the next one is ``seconds`` later. The timeline shows the first one."""
    for query in queries:
        values = {"failures": query.failures + 1, "due_at": at + seconds, "reason": why}
        changed = connection.execute(sa.update(worklist_query).where(_PENDING, _is(query)).values(**values))
        if changed.rowcount and not query.failures:
            _record(connection, query, WorklistState.PENDING, why, at)


def answer_query(
    connection: sa.Connection,
    of: WorklistQuery,
    state: WorklistState,
    at: float,
    *,
    why: Reason | None = None,
    orders: Sequence[NewOrder] = (),
) -> bool:
    """Record an answer with its orders; ``False``: another process was faster.

    An order that came in a message meanwhile counts, and that of the worklist does not.
    """
    locked = sa.select(worklist_query.c.state).where(_PENDING, _is(of)).with_for_update()
    if connection.execute(locked).first() is None:
        return False
    if has_order(connection, of.keys):
        state, why, orders = WorklistState.FOUND, None, ()
    record_worklist_orders(connection, orders, of.id, at)
    _end(connection, of, state, why, at)
    return True


def has_order(connection: sa.Connection, images: OrderKeys) -> bool:
    """Whether an order of the images is known, also one that was canceled."""
    known = orders_of(connection, images)
    return bool(known.active or known.canceled)


def queries_of_study(connection: sa.Connection, study: str) -> list[WorklistQuery]:
    """Return what the worklist was asked about a study."""
    query = sa.select(worklist_query).where(worklist_query.c.study_instance_uid == study)
    return [_query(row) for row in connection.execute(query.order_by(worklist_query.c.asked_at)).mappings()]


def unanswered_queries(connection: sa.Connection) -> PendingQueries | None:
    """Return the pending queries of which an attempt failed; ``None`` when there are none."""
    failed = sa.and_(_PENDING, worklist_query.c.failures > 0)
    rows = sa.select(sa.func.count(), sa.func.min(worklist_query.c.asked_at)).where(failed)
    number, since = connection.execute(rows).one()
    if not number:
        return None
    latest = sa.select(worklist_query.c.reason).where(failed).order_by(worklist_query.c.due_at.desc()).limit(1)
    return PendingQueries(studies=number, since=since, reason=connection.scalar(latest))


def _end(connection: sa.Connection, of: WorklistQuery, state: WorklistState, why: Reason | None, at: float) -> None:
    values = {"state": state, "reason": why, "answered_at": at}
    connection.execute(sa.update(worklist_query).where(_is(of)).values(**values))
    _record(connection, of, state, why, at)


def _record(connection: sa.Connection, of: WorklistQuery, state: WorklistState, why: Reason | None, at: float) -> None:
    record_study_event(
        connection,
        EventKind.WORKLIST,
        at=at,
        study_instance_uid=of.keys.study_instance_uid,
        state=state,
        reason=why,
    )


def _is(of: WorklistQuery) -> sa.ColumnElement[bool]:
    names = ("study_instance_uid", "accession", "patient_id")
    return sa.and_(*(worklist_query.c[name] == getattr(of.keys, name) for name in names))


def _query(row: Any) -> WorklistQuery:
    values = dict(row)
    keys = OrderKeys(**{name: values.pop(name) for name in _KEYS})
    return WorklistQuery(keys=keys, **values | {"state": WorklistState(values["state"])})

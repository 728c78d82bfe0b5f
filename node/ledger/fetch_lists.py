"""Lists of studies that are fetched as time allows: what is asked for, how far it is, and what goes after all others.

A study is marked before its first image is asked for, so that the router knows when it decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.states import ACTIVE, FetchState, SeriesState
from node.ledger.tables import fetch_item, fetch_list, fetched_study, job, series

_ROWS = 500
"""Of a list that are written at once."""
_MISSING = (FetchState.NOT_FOUND, FetchState.FAILED)
_NOT_TRIED = (*_MISSING, FetchState.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class NewFetchList:
    """What somebody asks for."""

    destination: str
    """Name of the ``[destinations.NAME]`` that has the studies."""
    modalities: tuple[str, ...] = ()
    """Empty: those that a rule matches."""
    requester: str
    """User of the dashboard, or of the command line."""
    keys: Sequence[tuple[str, str]]
    """Keyword and value of each item, such as AccessionNumber and A1."""


@dataclass(frozen=True, kw_only=True)
class FetchItem:
    """What is asked for in one query: a study, or several until the archive has named them."""

    id: int
    list_id: int
    destination: str
    modalities: tuple[str, ...]
    keyword: str
    value: str
    state: FetchState
    here: int
    """Images of the wanted series that are here."""
    there: int
    """Images of them that the archive has."""
    error: str
    """Of the last attempt; empty: there was none."""
    failures: int
    """Attempts in a row that have failed."""


@dataclass(frozen=True, kw_only=True)
class FetchProgress:
    """How far one list is."""

    id: int
    destination: str
    requester: str
    requested_at: float
    items: dict[FetchState, int]
    """Number of items in each state."""
    images: int
    """Images of its items that are here."""
    error: str
    """Why an item is tried again; empty: none is."""

    @property
    def waiting(self) -> int:
        """Number of items that are still to be fetched."""
        return self.items.get(FetchState.WAITING, 0)

    @property
    def lacks(self) -> int:
        """Number of items that are not tried any more and did not come."""
        return sum(self.items.get(state, 0) for state in _NOT_TRIED)


def add_fetch_list(connection: sa.Connection, new: NewFetchList) -> int:
    """Keep what somebody asks for; return the number of the list. What it names twice is one item."""
    row = {
        "destination": new.destination,
        "modalities": list(new.modalities),
        "requester": new.requester,
        "requested_at": ledger_clock(connection),
    }
    number = int(connection.execute(sa.insert(fetch_list).values(**row).returning(fetch_list.c.id)).scalar_one())
    _add_items(connection, number, new.keys)
    return number


def due_item(connection: sa.Connection, destination: str | None = None) -> FetchItem | None:
    """Return the item to fetch next, the oldest first; ``destination``: only of lists of this one."""
    query = _items().where(
        fetch_item.c.state == _literal(FetchState.WAITING), fetch_item.c.due_at <= ledger_clock(connection)
    )
    if destination is not None:
        query = query.where(fetch_list.c.destination == destination)
    row = connection.execute(query.order_by(fetch_item.c.id).limit(1)).mappings().first()
    return None if row is None else _item(row)


def split_item(connection: sa.Connection, of: FetchItem, studies: Collection[str]) -> None:
    """Replace an item by one for each study that the archive has named for it."""
    connection.execute(sa.delete(fetch_item).where(fetch_item.c.id == of.id))
    _add_items(connection, of.list_id, [("StudyInstanceUID", study) for study in studies])


def mark_fetched(connection: sa.Connection, study: str) -> None:
    """Let the analyses of a study, which is about to be fetched, go after all others."""
    insert_new(connection, fetched_study, [{"study_instance_uid": study, "fetched_at": ledger_clock(connection)}])


def is_fetched(connection: sa.Connection, study: str) -> bool:
    """Whether a study was fetched for a list."""
    query = sa.select(sa.exists().where(fetched_study.c.study_instance_uid == study))
    return connection.scalar(query) is True


def end_item(
    connection: sa.Connection, of: FetchItem, state: FetchState, *, here: int = 0, there: int = 0, error: str = ""
) -> None:
    """Record what became of an item, unless its list was cancelled meanwhile."""
    _change(connection, of, state=state, here=here, there=there, error=error)


def begin_attempt(connection: sa.Connection, of: FetchItem, seconds: float) -> None:
    """Record an attempt, which counts as failed until the item ends; make the next one due later."""
    _change(connection, of, failures=of.failures + 1, due_at=ledger_clock(connection) + seconds)


def record_failure(connection: sa.Connection, of: FetchItem, *, here: int, there: int, error: str) -> None:
    """Record why an attempt has failed, and which images are here nevertheless."""
    _change(connection, of, here=here, there=there, error=error)


def undo_attempt(connection: sa.Connection, of: FetchItem, error: str) -> None:
    """Record that an attempt was none, because the archive was away; ``of``: the item before it."""
    _change(connection, of, failures=of.failures, error=error)


def put_off_destination(connection: sa.Connection, destination: str, seconds: float) -> None:
    """Make the next attempt at each item of a destination due later."""
    due_at = ledger_clock(connection) + seconds
    lists = sa.select(fetch_list.c.id).where(fetch_list.c.destination == destination)
    waiting = fetch_item.c.list_id.in_(lists), fetch_item.c.state == _literal(FetchState.WAITING)
    sooner = sa.update(fetch_item).where(*waiting, fetch_item.c.due_at < due_at)
    connection.execute(sooner.values(due_at=due_at))


def cancel_fetch_list(connection: sa.Connection, number: int) -> int:
    """Fetch nothing more of a list; return how many items that were. Raises ``NotFoundError``."""
    return _set_state(connection, number, (FetchState.WAITING,), FetchState.CANCELLED)


def fetch_again(connection: sa.Connection, number: int) -> int:
    """Let what a list lacks wait again; return how many items. Raises ``NotFoundError``."""
    return _set_state(connection, number, _NOT_TRIED, FetchState.WAITING)


def fetch_progress(connection: sa.Connection) -> list[FetchProgress]:
    """All lists, the newest first."""
    counts: dict[int, dict[FetchState, int]] = {}
    images: dict[int, int] = {}
    failing = fetch_item.c.state == _literal(FetchState.WAITING), fetch_item.c.error != ""
    query = sa.select(fetch_item.c.list_id, sa.func.min(fetch_item.c.error)).where(*failing)
    errors = {row[0]: row[1] for row in connection.execute(query.group_by(fetch_item.c.list_id))}
    each = fetch_item.c.list_id, fetch_item.c.state
    for number, state, items, here in connection.execute(
        sa.select(*each, sa.func.count(), sa.func.sum(fetch_item.c.here)).group_by(*each)
    ):
        counts.setdefault(number, {})[FetchState(state)] = items
        images[number] = images.get(number, 0) + here
    return [
        FetchProgress(
            id=row.id,
            destination=row.destination,
            requester=row.requester,
            requested_at=row.requested_at,
            items=counts.get(row.id, {}),
            images=images.get(row.id, 0),
            error=errors.get(row.id, ""),
        )
        for row in connection.execute(sa.select(fetch_list).order_by(fetch_list.c.id.desc()))
    ]


def missing_items(connection: sa.Connection, number: int) -> list[FetchItem]:
    """What a list lacks and is not tried again, and what has failed until now. Raises ``NotFoundError``."""
    _check_known(connection, number)
    lacking = sa.or_(fetch_item.c.state.in_(_MISSING), fetch_item.c.error != "")
    query = _items().where(fetch_item.c.list_id == number, lacking).order_by(fetch_item.c.id)
    return [_item(row) for row in connection.execute(query).mappings()]


def open_fetches(connection: sa.Connection) -> int:
    """Number of analyses of fetched studies that have not ended, and of their series that are not routed yet."""
    jobs = sa.select(sa.func.count()).where(
        job.c.state.in_(ACTIVE), job.c.study_instance_uid.in_(sa.select(fetched_study.c.study_instance_uid))
    )
    coming = sa.select(sa.func.count()).where(
        series.c.state == SeriesState.RECEIVING,
        series.c.study_instance_uid.in_(sa.select(fetched_study.c.study_instance_uid)),
    )
    return int(connection.scalar(jobs) or 0) + int(connection.scalar(coming) or 0)


def purge_fetches(connection: sa.Connection, before: float) -> None:
    """Delete lists of which nothing waits and nothing has happened since ``before``, and marks of what never came."""
    used = sa.exists().where(
        fetch_item.c.list_id == fetch_list.c.id,
        sa.or_(fetch_item.c.state == _literal(FetchState.WAITING), fetch_item.c.updated_at >= before),
    )
    old = list(connection.scalars(sa.select(fetch_list.c.id).where(~used, fetch_list.c.requested_at < before)))
    connection.execute(sa.delete(fetch_item).where(fetch_item.c.list_id.in_(old)))
    connection.execute(sa.delete(fetch_list).where(fetch_list.c.id.in_(old)))
    came = sa.exists().where(series.c.study_instance_uid == fetched_study.c.study_instance_uid)
    connection.execute(sa.delete(fetched_study).where(fetched_study.c.fetched_at < before, ~came))


def _add_items(connection: sa.Connection, number: int, keys: Sequence[tuple[str, str]]) -> None:
    at = ledger_clock(connection)
    common = {"list_id": number, "state": FetchState.WAITING, "here": 0, "there": 0, "error": "", "failures": 0}
    rows = [
        common | {"keyword": keyword, "value": value, "due_at": at, "updated_at": at}
        for keyword, value in dict.fromkeys(keys)
    ]
    for begin in range(0, len(rows), _ROWS):
        insert_new(connection, fetch_item, rows[begin : begin + _ROWS])


def _set_state(connection: sa.Connection, number: int, before: Collection[FetchState], state: FetchState) -> int:
    _check_known(connection, number)
    at = ledger_clock(connection)
    those = fetch_item.c.list_id == number, fetch_item.c.state.in_(before)
    values = {"state": state, "error": "", "failures": 0, "due_at": at, "updated_at": at}
    return int(connection.execute(sa.update(fetch_item).where(*those).values(**values)).rowcount)


def _check_known(connection: sa.Connection, number: int) -> None:
    if connection.scalar(sa.select(sa.exists().where(fetch_list.c.id == number))) is not True:
        raise NotFoundError(f"there is no list {number} of studies to fetch; `ainode fetches` shows all")


def _change(connection: sa.Connection, of: FetchItem, **values: object) -> None:
    waiting = fetch_item.c.id == of.id, fetch_item.c.state == FetchState.WAITING
    changed = values | {"updated_at": ledger_clock(connection)}
    connection.execute(sa.update(fetch_item).where(*waiting).values(**changed))


def _items() -> sa.Select[Any]:
    columns = (column for column in fetch_item.c if column.name not in ("due_at", "updated_at"))
    joined = sa.join(fetch_item, fetch_list, fetch_item.c.list_id == fetch_list.c.id)
    return sa.select(*columns, fetch_list.c.destination, fetch_list.c.modalities).select_from(joined)


def _item(row: Any) -> FetchItem:
    return FetchItem(**dict(row) | {"state": FetchState(row["state"]), "modalities": tuple(row["modalities"])})


def _literal(state: FetchState) -> sa.ColumnElement[str]:
    """As a literal, for which the index of waiting items serves."""
    return sa.literal_column(f"'{state}'")

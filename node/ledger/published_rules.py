"""Versions of the shared configuration that one machine has published for all, and what each file has of them.

Rules and destinations are text of their own, which every version of the node takes over; the other shared values came
later, and count until the next version that has some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import published_rules, taken_rules

REPORT_SECONDS = 60.0
"""Between two reports of what a file has."""
REPORTED_SECONDS = 3 * REPORT_SECONDS
"""What was not reported for this long is of a machine that is gone."""


@dataclass(frozen=True, kw_only=True)
class PublishedRules:
    """A version, as one machine published it."""

    number: int
    """From 1."""
    at: float
    who: str
    why: str
    text: str
    """Rules and destinations: tables of ``config.toml``."""
    settings: str | None
    """The other shared values that count with it, as TOML; ``None``: none were published until then."""
    settings_number: int
    """The version that brought them; 0: none."""


@dataclass(frozen=True, kw_only=True)
class TakenRules:
    """What a configuration file has of what was published."""

    number: int
    """Of the newest that was written into it, or that it had before; 0: there was none."""
    settings_number: int
    """Of the newest whose shared values, beside rules and destinations, were; 0: none."""
    at: float
    age: float
    """Seconds since then."""
    is_newest: bool


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What a machine reports of its configuration file."""

    file: str
    """Name of the host and path."""
    number: int
    is_newest: bool
    differences: dict[str, list[str]]
    """Shared keys that are not as published: here, published."""
    fault: str
    """Why it cannot take over the newest version; empty: it can."""

    @property
    def is_as_published(self) -> bool:
        """Whether it has all of the newest version."""
        return self.is_newest and not self.fault and not self.differences


def newest_rules(connection: sa.Connection) -> PublishedRules | None:
    """Return what was published last."""
    return next(iter(_versions(connection, 1)), None)


def published_version(connection: sa.Connection, number: int) -> PublishedRules | None:
    """Return a version; ``None``: there is none of this number."""
    return next(iter(_versions(connection, 1, published_rules.c.number == number)), None)


def published_versions(connection: sa.Connection, limit: int) -> list[PublishedRules]:
    """Return the last versions, the newest first."""
    return _versions(connection, limit)


def hold_publications(connection: sa.Connection) -> None:
    """Let nobody else publish until this transaction ends, as on SQLite no write transaction does."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.DDL(f"LOCK TABLE {published_rules.name} IN SHARE ROW EXCLUSIVE MODE"))


def publish_rules(connection: sa.Connection, text: str, *, who: str, why: str, settings: str | None = None) -> int:
    """Publish rules and destinations and return their number. ``settings``: ``None``: as they were published before."""
    number = _last(connection)[0] + 1
    row = {"number": number, "at": ledger_clock(connection), "who": who, "why": why, "text": text, "settings": settings}
    connection.execute(sa.insert(published_rules), [row])
    return number


def known_as_taken(connection: sa.Connection, file: str) -> TakenRules | None:
    """Return what a file has; ``None``: it is new. ``file``: host and path."""
    row = connection.execute(sa.select(taken_rules).where(taken_rules.c.file == file)).first()
    return None if row is None else _taken(connection, row)


def taken(connection: sa.Connection, file: str) -> TakenRules:
    """Return what a file has. One that is new has nothing of what was published.

    Whoever calls this in a transaction is alone with the file until its end.
    """
    insert_new(connection, taken_rules, [{"file": file, "number": 0, "at": ledger_clock(connection)}])
    query = sa.select(taken_rules).where(taken_rules.c.file == file).with_for_update()
    return _taken(connection, connection.execute(query).one())


def set_taken(connection: sa.Connection, file: str, number: int, settings_number: int) -> None:
    """Keep that a file has what was published under these numbers."""
    values = {"number": number, "settings_number": settings_number, "at": ledger_clock(connection), "fault": None}
    connection.execute(sa.update(taken_rules).where(taken_rules.c.file == file).values(**values))


def report_file(connection: sa.Connection, file: str, differences: dict[str, list[str]], fault: str) -> None:
    """Keep what a file has otherwise than published, and why it cannot take that over."""
    values = {"differences": differences, "fault": fault or None, "reported_at": ledger_clock(connection)}
    connection.execute(sa.update(taken_rules).where(taken_rules.c.file == file).values(**values))


def file_states(connection: sa.Connection) -> list[FileState]:
    """Return what every file has that a process has reported lately, by their names."""
    last, since = _last(connection), ledger_clock(connection) - REPORTED_SECONDS
    table = taken_rules.c
    query = sa.select(taken_rules).where(table.reported_at > since).order_by(table.file)
    return [
        FileState(
            file=row.file,
            number=row.number,
            is_newest=_is_newest(row, last),
            differences=row.differences,
            fault=row.fault or "",
        )
        for row in connection.execute(query)
    ]


def _versions(connection: sa.Connection, limit: int, *where: sa.ColumnElement[bool]) -> list[PublishedRules]:
    table, before = published_rules.c, published_rules.alias().c
    settings = (
        sa.select(sa.func.max(before.number))
        .where(before.number <= table.number, before.settings.is_not(None))
        .correlate(published_rules)
        .scalar_subquery()
    )
    query = sa.select(table.number, table.at, table.who, table.why, table.text, settings.label("settings_number"))
    rows = connection.execute(query.where(*where).order_by(table.number.desc()).limit(limit)).all()
    numbers = {row.settings_number for row in rows} - {None}
    texts = dict(connection.execute(sa.select(table.number, table.settings).where(table.number.in_(numbers))).all())
    return [
        PublishedRules(
            number=row.number,
            at=row.at,
            who=row.who,
            why=row.why,
            text=row.text,
            settings=texts.get(row.settings_number),
            settings_number=row.settings_number or 0,
        )
        for row in rows
    ]


def _taken(connection: sa.Connection, row: sa.Row[Any]) -> TakenRules:
    return TakenRules(
        number=row.number,
        settings_number=row.settings_number or 0,
        at=row.at,
        age=ledger_clock(connection) - row.at,
        is_newest=_is_newest(row, _last(connection)),
    )


def _is_newest(row: sa.Row[Any], last: tuple[int, int]) -> bool:
    return bool(row.number >= last[0] and (row.settings_number or 0) >= last[1])


def _last(connection: sa.Connection) -> tuple[int, int]:
    """Numbers of the last version, and of the last that has settings."""
    table = published_rules.c
    of_settings = sa.func.max(sa.case((table.settings.is_not(None), table.number), else_=0))
    row = connection.execute(sa.select(sa.func.max(table.number), of_settings)).one()
    return row[0] or 0, row[1] or 0

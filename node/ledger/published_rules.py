"""Rules and destinations that one machine has published for all that share this ledger, and who has taken them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import published_rules, taken_rules


@dataclass(frozen=True, kw_only=True)
class PublishedRules:
    """As one machine published them."""

    number: int
    """From 1."""
    who: str
    why: str
    text: str
    """Tables of ``config.toml``."""


@dataclass(frozen=True, kw_only=True)
class TakenRules:
    """What a configuration file has of what was published."""

    number: int
    """Of the newest that was written into it, or that it had before; 0: there was none."""
    age: float
    """Seconds since then."""
    is_newest: bool


def newest_rules(connection: sa.Connection) -> PublishedRules | None:
    """Return what was published last."""
    table = published_rules.c
    query = sa.select(table.number, table.who, table.why, table.text).order_by(table.number.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else PublishedRules(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def hold_publications(connection: sa.Connection) -> None:
    """Let nobody else publish until this transaction ends, as on SQLite no write transaction does."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.DDL(f"LOCK TABLE {published_rules.name} IN SHARE ROW EXCLUSIVE MODE"))


def publish_rules(connection: sa.Connection, text: str, *, who: str, why: str) -> int:
    """Publish rules and destinations and return their number."""
    last = _last(connection)
    row = {"number": last + 1, "at": ledger_clock(connection), "who": who, "why": why, "text": text}
    connection.execute(sa.insert(published_rules), [row])
    return last + 1


def known_as_taken(connection: sa.Connection, file: str) -> TakenRules | None:
    """Return what a file has; ``None``: it is new. ``file``: host and path."""
    row = connection.execute(sa.select(taken_rules).where(taken_rules.c.file == file)).first()
    return None if row is None else _taken(connection, row)


def taken(connection: sa.Connection, file: str) -> TakenRules:
    """Return what a file has. One that is new has the newest: it was made from the file of another machine.

    Whoever calls this in a transaction is alone with the file until its end.
    """
    row = {"file": file, "number": _last(connection), "at": ledger_clock(connection)}
    insert_new(connection, taken_rules, [row])
    query = sa.select(taken_rules).where(taken_rules.c.file == file).with_for_update()
    return _taken(connection, connection.execute(query).one())


def set_taken(connection: sa.Connection, file: str, number: int) -> None:
    """Keep that a file has what was published under this number."""
    values = {"number": number, "at": ledger_clock(connection)}
    connection.execute(sa.update(taken_rules).where(taken_rules.c.file == file).values(**values))


def _taken(connection: sa.Connection, row: sa.Row[Any]) -> TakenRules:
    age, is_newest = ledger_clock(connection) - row.at, row.number >= _last(connection)
    return TakenRules(number=row.number, age=age, is_newest=is_newest)


def _last(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(published_rules.c.number))) or 0

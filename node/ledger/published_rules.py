"""Rules and destinations that one machine has published for all that share this ledger."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import ConfigError
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import published_rules


@dataclass(frozen=True, kw_only=True)
class PublishedRules:
    """As one machine published them."""

    number: int
    """From 1."""
    who: str
    why: str
    text: str
    """Tables of ``config.toml``."""


def newest_rules(connection: sa.Connection) -> PublishedRules | None:
    """Return what was published last."""
    table = published_rules.c
    query = sa.select(table.number, table.who, table.why, table.text).order_by(table.number.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else PublishedRules(**row._mapping)  # noqa: SLF001 - public in spite of its name


def publish_rules(connection: sa.Connection, text: str, *, who: str, why: str, seen: int) -> int:
    """Publish rules and destinations and return their number.

    ``seen``: the number of the newest that whoever publishes knows; 0: of none. Raises ``ConfigError`` when there are
    newer ones.
    """
    newest = newest_rules(connection)
    last = newest.number if newest else 0
    number = max(last, seen) + 1  # a ledger that was restored may know fewer
    row = {"number": number, "at": ledger_clock(connection), "who": who, "why": why, "text": text}
    if last > seen or not insert_new(connection, published_rules, [row]):
        raise ConfigError(
            "another machine has published rules meanwhile, which are here within seconds; open the editor again, and "
            "compare"
        )
    return number

"""A large table some rows at a time, in the order of a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

KeyCondition = Callable[[sa.Column[str]], sa.ColumnElement[bool]]
"""Which rows of a table are read, as a condition on its column with the key."""


@dataclass(frozen=True)
class KeyRange:
    """The keys that follow ``after``, up to and with ``through``; ``None``: no limit."""

    after: str | None
    through: str | None

    def __call__(self, column: sa.Column[str]) -> sa.ColumnElement[bool]:
        """Whether the column has one of them."""
        # Plain text: a key that a person wrote into the ledger would be another one after it was escaped.
        limits = []
        if self.after is not None:
            limits.append(column > sa.literal(self.after, sa.Text))
        if self.through is not None:
            limits.append(column <= sa.literal(self.through, sa.Text))
        return sa.and_(sa.true(), *limits)


def key_ranges(connection: sa.Connection, column: sa.Column[str], rows: int) -> Iterator[KeyRange]:
    """Ranges in which every possible key is once, each with ``rows`` rows of the table of ``column`` and not many more.

    Rows of other tables that have a key which this table does not have are in one of them, too.
    """
    last = sa.select(column).order_by(column).offset(rows - 1).limit(1)
    through = connection.scalar(last)
    ranges = KeyRange(None, through)
    yield ranges
    while ranges.through is not None:
        ranges = KeyRange(ranges.through, connection.scalar(last.where(KeyRange(ranges.through, None)(column))))
        yield ranges

"""The metadata of all tables, and the kinds of their columns."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from node.peer_text import escaped, escaped_values

metadata = sa.MetaData()


class EscapedText(sa.types.TypeDecorator[str]):
    """Text that a peer, file or model may have had a part in: escaped and bounded before it is stored."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return value if value is None else escaped(value)


class EscapedJson(sa.types.TypeDecorator[Any]):
    """A JSON value whose texts are escaped and bounded before it is stored."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        return escaped_values(value)


class StoredReason(EscapedJson):
    """A reason as ``node.reasons`` makes it. Sentences are only read, where version 1.0.0 wrote them."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if isinstance(value, str):
            raise TypeError(f"{value!r} is a sentence; write a reason of node.reasons")
        return super().process_bind_param(value, dialect)


def text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[str]:
    """A column of text."""
    return sa.Column(name, EscapedText, nullable=null, primary_key=key)


def serial(name: str) -> sa.Column[int]:
    """A key that the database counts up, in 64 bits: 32 are used up by a year of 1 million studies."""
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts only INTEGER, which has 64 bits there
    return sa.Column(name, kind, primary_key=True, autoincrement=True)


def json(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A column of JSON."""
    return sa.Column(name, EscapedJson, nullable=null)


def reason(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A column of a reason."""
    return sa.Column(name, StoredReason(none_as_null=True), nullable=null)


def number(name: str, *, null: bool = False) -> sa.Column[float]:
    """A column of 64-bit floating point."""
    return sa.Column(name, sa.Double, nullable=null)


time = number
"""A column of seconds since 1970 UTC."""

"""The metadata of all tables, and the kinds of their columns."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


def text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[str]:
    """A column of text."""
    return sa.Column(name, sa.Text, nullable=null, primary_key=key)


def number(name: str, *, null: bool = False) -> sa.Column[float]:
    """A column of 64-bit floating point."""
    return sa.Column(name, sa.Double, nullable=null)


time = number
"""A column of seconds since 1970 UTC."""

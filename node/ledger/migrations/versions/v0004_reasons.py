"""Reasons as data: the sentences of earlier versions stay, as JSON strings."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = ("decision", "job")
_COLUMNS = ("reason", "incomplete", "caveat")


def upgrade() -> None:
    """Apply the change; rows that are there stay."""
    for table in _TABLES:
        if op.get_bind().dialect.name == "postgresql":
            for column in _COLUMNS:
                op.alter_column(table, column, type_=sa.JSON(), postgresql_using=f"to_json({column})")
            continue
        for column in _COLUMNS:
            op.execute(f"UPDATE {table} SET {column} = json_quote({column}) WHERE {column} IS NOT NULL")  # noqa: S608
        # Declared as JSON when it is copied, because SQLite would cast a changed type to a number.
        listening = {"listeners": [("column_reflect", _declare)]}
        with op.batch_alter_table(table, recreate="always", reflect_kwargs=listening):
            pass


def _declare(_inspector: Any, _table: sa.Table, column: Any) -> None:
    if column["name"] in _COLUMNS:
        column["type"] = sa.JSON()

"""Alembic runs this: migrate the connection that ``upgrade`` gives, or the database of ``alembic -x ledger=URL``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa
from alembic import context

from node.ledger.tables import metadata


def _render(kind: str, value: Any, _context: Any) -> Any:
    """Write a revision without our own types: what they do is no matter of the database."""
    return f"sa.{value.impl_instance!r}" if kind == "type" and isinstance(value, sa.types.TypeDecorator) else False


with ExitStack() as stack:
    connection = context.config.attributes.get("connection")
    if connection is None:
        engine = sa.create_engine(context.get_x_argument(as_dictionary=True)["ledger"])
        connection = stack.enter_context(engine.begin())
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, render_item=_render)
    with context.begin_transaction():
        context.run_migrations()

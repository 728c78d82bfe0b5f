"""The configuration that each process has read, and rules that one machine publishes for all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Apply the change; what a process of an older version has read is not known."""
    op.add_column("member", sa.Column("began_at", sa.Double(), nullable=True))
    op.add_column("member", sa.Column("configuration", sa.JSON(), nullable=True))
    op.create_table(
        "published_rules",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("who", "why", "text")),
    )
    op.create_table(
        "taken_rules",
        sa.Column("file", sa.Text(), primary_key=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )

"""Candidates that answer in the place of champions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Apply the change; nothing was promoted yet."""
    op.create_table(
        "promotion",
        sa.Column("champion", sa.Text(), primary_key=True),
        sa.Column("candidate", sa.Text(), primary_key=True),
        sa.Column("promoted_at", sa.Double(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("rolled_back_at", sa.Double(), nullable=True),
    )

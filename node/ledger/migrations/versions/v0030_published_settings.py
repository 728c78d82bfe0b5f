"""Shared values beside rules and destinations are published, and each file says what it has otherwise."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Apply the change; an older process neither writes nor reads the new columns."""
    op.add_column("published_rules", sa.Column("settings", sa.Text(), nullable=True))
    op.add_column("taken_rules", sa.Column("settings_number", sa.Integer(), nullable=True))
    op.add_column("taken_rules", sa.Column("differences", sa.JSON(), nullable=True))
    op.add_column("taken_rules", sa.Column("fault", sa.Text(), nullable=True))
    op.add_column("taken_rules", sa.Column("reported_at", sa.Double(), nullable=True))

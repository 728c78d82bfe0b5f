"""When a name last got in from an origin; how much a device names in procedure steps and commitment requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply the change; rows that are there stay."""
    op.add_column("login_attempt", sa.Column("succeeded_at", sa.Double(), nullable=True))
    for table in ("procedure_step", "commitment"):
        op.add_column(table, sa.Column("named", sa.Integer(), nullable=False, server_default="0"))
        op.create_index(f"{table}_equipment", table, ["equipment"])

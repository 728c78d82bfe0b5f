"""What a heartbeat says of its machine: the offset of its clock, and the free space of its storage folder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Apply the change; a process of an older version leaves the columns empty."""
    for name in ("clock_offset_seconds", "clock_error_seconds", "min_free_gib"):
        op.add_column("member", sa.Column(name, sa.Double(), nullable=True))
    for name in ("free_bytes", "total_bytes"):
        op.add_column("member", sa.Column(name, sa.BigInteger(), nullable=True))

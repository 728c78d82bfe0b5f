"""Machines without a shared folder: which of them holds what, and where the others can fetch it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply the change; no machine has a file service yet."""
    op.add_column("member", sa.Column("files_url", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_table(
        "holding",
        sa.Column("folder", sa.Text(), primary_key=True),
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("purged", sa.Boolean(), nullable=False),
    )

"""Second copies: where machines send them, and which files lack one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Apply the change; until now one copy was all that was asked for."""
    op.add_column("member", sa.Column("copies_address", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_table(
        "missing_copy",
        sa.Column("path", sa.Text(), primary_key=True),
        sa.Column("missing_at", sa.Double(), nullable=False),
    )

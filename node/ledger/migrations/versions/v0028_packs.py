"""Packs of complete series in an object store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Apply the change; nothing is packed yet."""
    op.add_column("series", sa.Column("packed_generation", sa.Integer(), nullable=True))
    op.create_table(
        "pack",
        sa.Column("name", sa.Text(), primary_key=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("state", "claim", "study_instance_uid", "series_instance_uid")
        ),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
    )
    op.create_index("pack_state", "pack", ["state", "at"])
    op.create_table(
        "packed",
        sa.Column("path", sa.Text(), primary_key=True),
        sa.Column("pack", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("position", "size")),
        sa.Column("digest", sa.Text(), nullable=False),
    )
    op.create_index("packed_pack", "packed", ["pack"])

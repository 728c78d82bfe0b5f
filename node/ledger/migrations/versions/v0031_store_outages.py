"""Outages of the object store, by the machine that saw them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Apply the change; no outage is known yet."""
    op.create_table(
        "store_outage",
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
    )

"""Results that are kept in shadow: stop rules that have tripped, and candidates beside a champion."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COUNTED = ["at", "pipeline", "version", "scanner", "outcome", "findings", "job_id"]


def upgrade() -> None:
    """Apply the change; the results of every earlier analysis were sent."""
    op.create_table(
        "quality_stop",
        sa.Column("pipeline", sa.Text(), primary_key=True),
        sa.Column("stopped_at", sa.Double(), nullable=False),
        sa.Column("why", sa.JSON(), nullable=False),
        sa.Column("resumed_at", sa.Double(), nullable=True),
    )
    op.add_column("job", sa.Column("shadow", sa.Text(), nullable=True))
    op.add_column("job_fact", sa.Column("shadow", sa.Text(), nullable=True))
    op.drop_index("job_fact_quality", "job_fact")
    op.create_index("job_fact_quality", "job_fact", [*_COUNTED, "shadow"])

"""Reports of acceptance tests, and what archives were asked for on behalf of verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Apply the change; nothing was tested or asked for yet."""
    op.create_table(
        "acceptance",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=True),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("tested_at", sa.Double(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", sa.Double(), nullable=True),
    )
    op.create_index("acceptance_version", "acceptance", ["options", "version"])
    op.create_table(
        "reader_query",
        sa.Column("study_instance_uid", sa.Text(), primary_key=True),
        sa.Column("series_instance_uid", sa.Text(), primary_key=True),
        sa.Column("asked_at", sa.Double(), nullable=False),
    )

"""Verdicts of readers, and the version of the algorithm of each analysis, by which they are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_CURRENT = sa.text("superseded_at IS NULL")


def upgrade() -> None:
    """Apply the change; no verdict has been given yet, and the versions of earlier analyses are not known."""
    op.create_table(
        "reader_object",
        sa.Column("sop_instance_uid", sa.Text(), primary_key=True),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("verdicts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("read_at", sa.Double(), nullable=False),
    )
    op.create_index("reader_object_study", "reader_object", ["study_instance_uid"])
    op.create_table(
        "verdict",
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("job_id", sa.Text(), primary_key=True),
        sa.Column("lesion", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("matched_by", sa.Text(), nullable=True),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("given_at", sa.Double(), nullable=False),
        sa.Column("content_time", sa.Text(), nullable=True),
        sa.Column("dice", sa.Double(), nullable=True),
        sa.Column("hd95_mm", sa.Double(), nullable=True),
        sa.Column("volume_mm3", sa.Double(), nullable=True),
        sa.Column("reader_volume_mm3", sa.Double(), nullable=True),
        sa.Column("superseded_at", sa.Double(), nullable=True),
    )
    op.create_index("verdict_current", "verdict", ["job_id"], sqlite_where=_CURRENT, postgresql_where=_CURRENT)
    op.add_column("job_fact", sa.Column("version", sa.Text(), nullable=True))
    op.create_index(
        "job_fact_quality", "job_fact", ["at", "pipeline", "version", "scanner", "outcome", "findings", "job_id"]
    )

"""Embeddings of lesions, by which similar findings are found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Apply the change; no finding has an embedding yet."""
    op.create_table(
        "embedding_space",
        sa.Column("pipeline", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("statement", sa.JSON(), nullable=False),
        sa.Column("rebuilt_at", sa.Double(), nullable=False),
    )
    texts = ("study_instance_uid", "job_id", "lesion", "label", "pipeline", "space")
    op.create_table(
        "lesion_embedding",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("long_axis_mm", sa.Double(), nullable=True),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("lesion_embedding_space", "lesion_embedding", ["pipeline", "space", "id"])
    op.create_index("lesion_embedding_study", "lesion_embedding", ["study_instance_uid"])
    op.create_index("lesion_embedding_job", "lesion_embedding", ["job_id"])
    op.create_index("lesion_embedding_lesion", "lesion_embedding", ["lesion"])

"""Queries of the Modality Worklist."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_KEY = ("study_instance_uid", "accession", "patient_id")
_TEXTS = ("accession_issuer", "placer", "filler", "patient_issuer", "study_date", "modality", "state")


def upgrade() -> None:
    """Apply the change; no worklist was asked yet."""
    op.create_table(
        "worklist_query",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in _KEY),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _TEXTS),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("answered_at", sa.Double(), nullable=True),
    )
    pending = sa.text("state = 'pending'")
    op.create_index("worklist_query_due", "worklist_query", ["due_at"], sqlite_where=pending, postgresql_where=pending)

"""Analyses that others request as workitems."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_TEXTS = ("study_instance_uid", "series_instance_uid", "procedure", "requester", "state")


def upgrade() -> None:
    """Apply the change; nothing was requested yet."""
    op.create_table(
        "workitem",
        sa.Column("uid", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _TEXTS),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
    )
    op.create_index("workitem_study", "workitem", ["study_instance_uid"])
    op.create_index("workitem_job", "workitem", ["job_id"])
    op.create_index("workitem_time", "workitem", ["requested_at"])
    pending = sa.text("state = 'pending'")
    op.create_index("workitem_pending", "workitem", ["requested_at"], sqlite_where=pending, postgresql_where=pending)

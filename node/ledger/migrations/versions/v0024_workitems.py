"""Analyses that others request as workitems, and workitems of others that this node performs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_TEXTS = ("study_instance_uid", "series_instance_uid", "procedure", "requester", "state")
_OF_CLAIM = (
    "transaction_uid",
    "study_instance_uid",
    "series_instance_uid",
    "patient_id",
    "procedure",
    "state",
    "reported",
)


def upgrade() -> None:
    """Apply the change; nothing was requested yet."""
    op.create_table(
        "workitem",
        sa.Column("uid", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _TEXTS),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("cancel_by", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
    )
    op.create_index("workitem_study", "workitem", ["study_instance_uid"])
    op.create_index("workitem_job", "workitem", ["job_id"])
    op.create_index("workitem_time", "workitem", ["requested_at"])
    pending = sa.text("state = 'pending'")
    op.create_index("workitem_pending", "workitem", ["requested_at"], sqlite_where=pending, postgresql_where=pending)
    cancel = sa.text("cancel_by IS NOT NULL")
    op.create_index("workitem_cancel", "workitem", ["requested_at"], sqlite_where=cancel, postgresql_where=cancel)
    op.create_table(
        "claimed_workitem",
        sa.Column("uid", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _OF_CLAIM),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("claimed_at", "due_at", "updated_at")),
    )
    op.create_index("claimed_workitem_study", "claimed_workitem", ["study_instance_uid"])
    is_open = sa.text("state NOT IN ('ended', 'lost')")
    op.create_index(
        "claimed_workitem_due", "claimed_workitem", ["due_at"], sqlite_where=is_open, postgresql_where=is_open
    )

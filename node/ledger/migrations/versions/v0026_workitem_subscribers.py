"""Subscribers to workitems, and what each knows of each workitem."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Apply the change; nobody is subscribed yet."""
    op.create_table(
        "workitem_subscriber",
        sa.Column("title", sa.Text(), primary_key=True),
        sa.Column("every_since", sa.Double(), nullable=True),
        sa.Column("matching_since", sa.Double(), nullable=True),
        sa.Column("keys", sa.JSON(), nullable=True),
        sa.Column("looked_at", sa.Double(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
    )
    op.create_table(
        "workitem_watch",
        sa.Column("title", sa.Text(), primary_key=True),
        sa.Column("uid", sa.Text(), primary_key=True),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("subscribed", sa.Boolean(), nullable=False),
        sa.Column("reported_state", sa.Text(), nullable=False),
        sa.Column("reported_progress", sa.Text(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("cancel", sa.JSON(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
    )
    op.create_index("workitem_watch_study", "workitem_watch", ["study_instance_uid"])
    op.create_index("workitem_watch_job", "workitem_watch", ["job_id"])
    op.create_index("workitem_watch_uid", "workitem_watch", ["uid"])
    followed = sa.text("subscribed AND reported_state NOT IN ('COMPLETED', 'CANCELED')")
    op.create_index(
        "workitem_watch_followed",
        "workitem_watch",
        ["title", "due_at"],
        sqlite_where=followed,
        postgresql_where=followed,
    )
    to_tell = sa.text("cancel IS NOT NULL")
    op.create_index(
        "workitem_watch_cancel", "workitem_watch", ["title"], sqlite_where=to_tell, postgresql_where=to_tell
    )

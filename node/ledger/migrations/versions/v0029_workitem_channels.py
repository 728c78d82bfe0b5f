"""How each subscriber to workitems receives its events, and its deletion locks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Apply the change; whoever is subscribed is so over DIMSE, without a lock."""
    for table, name in (
        ("workitem_subscriber", "websocket"),
        ("workitem_subscriber", "every_locked"),
        ("workitem_subscriber", "matching_locked"),
        ("workitem_watch", "locked"),
    ):
        op.add_column(table, sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
    locked = sa.text("locked")
    op.create_index(
        "workitem_watch_locked",
        "workitem_watch",
        ["study_instance_uid"],
        sqlite_where=locked,
        postgresql_where=locked,
    )

"""Lists of studies that are fetched from an archive as time allows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Apply the change; nothing was fetched so before."""
    waiting = sa.text("state = 'waiting'")
    op.create_table(
        "fetch_list",
        _serial(),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("modalities", sa.JSON(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
    )
    op.create_table(
        "fetch_item",
        _serial(),
        sa.Column("list_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("keyword", "value", "state")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("here", "there")),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("due_at", "updated_at")),
        sa.UniqueConstraint("list_id", "keyword", "value", name="fetch_item_key"),
    )
    op.create_index("fetch_item_waiting", "fetch_item", ["id"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "fetched_study",
        sa.Column("study_instance_uid", sa.Text(), primary_key=True),
        sa.Column("fetched_at", sa.Double(), nullable=False),
    )


def _serial() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)

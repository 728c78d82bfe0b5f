"""Indexes for what is asked again and again, so that no table is read as a whole for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_INDEXES = {
    "association_caller": ("association", ["calling_ae", "peer_address", "opened_at"]),
    "series_last": ("series", ["last_at"]),
    "delivery_instance_object": ("delivery_instance", ["sop_instance_uid"]),
    "decision_outcome": ("decision", ["outcome"]),
    "decision_cause": ("decision", ["cause", "decided_at"]),
    "job_outcome": ("job", ["outcome", "updated_at"]),
    "result_series": ("result", ["series_instance_uid"]),
}
_PARTIAL = {
    "association_unaudited": ("association", ["closed_at"], "audited_at IS NULL"),
    "delivery_open": ("delivery", ["destination"], "ended_at IS NULL"),
    "delivery_unaudited": ("delivery", ["state"], "audited_at IS NULL"),
}


def upgrade() -> None:
    """Apply the change; no row changes."""
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)
    for name, (table, columns, condition) in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)

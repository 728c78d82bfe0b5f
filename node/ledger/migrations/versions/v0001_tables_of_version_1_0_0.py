"""Tables of version 1.0.0."""

from __future__ import annotations

from node.ledger.migrations.version_1_0_0 import deliveries, jobs, operation, received

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of an empty ledger."""
    for tables in (received, jobs, deliveries, operation):
        tables.create_tables()

"""An index on the associations that are open: every receiver asks for them every few seconds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply the change; rows that are there stay."""
    still_open = sa.text("closed_at IS NULL")
    op.create_index(
        "association_open", "association", ["receiver"], sqlite_where=still_open, postgresql_where=still_open
    )

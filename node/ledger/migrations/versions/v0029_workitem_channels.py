"""How each subscriber to workitems receives its events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0027"


def upgrade() -> None:
    """Apply the change; whoever is subscribed is so over DIMSE."""
    over_dimse = sa.Column("websocket", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("workitem_subscriber", over_dimse)

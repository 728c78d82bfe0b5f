"""What a receiver holds of the limits that count on all machines of a fleet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Apply the change; what receivers of an older version hold is not counted elsewhere."""
    op.add_column("member", sa.Column("held", sa.JSON(), nullable=True))

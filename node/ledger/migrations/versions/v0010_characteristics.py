"""What the headers of a series showed when it was decided on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply the change; of earlier decisions it is not known."""
    op.add_column("decision", sa.Column("characteristics", sa.JSON(), nullable=True))

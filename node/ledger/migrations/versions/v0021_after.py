"""The pipeline whose result on the same series a job needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Apply the change; no job needed another one yet."""
    op.add_column("job", sa.Column("after", sa.Text(), nullable=True))

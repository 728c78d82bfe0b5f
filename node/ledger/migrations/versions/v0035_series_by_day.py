"""An index of when the first image of a series came, for the account of a day."""

from __future__ import annotations

from alembic import op

revision = "0035"
down_revision = "0034"
OLDEST = "0034"


def upgrade() -> None:
    """Apply the change; nothing of an older version depends on it."""
    op.create_index("series_first", "series", ["first_at"])

"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
OLDEST = ${repr(up_revision)}  # of the revision before, if processes of that version may go on: docs/development/migrations.md


def upgrade() -> None:
    """Apply the change; rows that are there stay."""
    ${upgrades if upgrades else "pass"}

"""Why the result of a job is urgent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Apply the change; no result was urgent yet."""
    op.add_column("job", sa.Column("urgent", sa.JSON(), nullable=True))
    is_urgent = sa.text("urgent IS NOT NULL")
    op.create_index("job_urgent", "job", ["updated_at"], sqlite_where=is_urgent, postgresql_where=is_urgent)

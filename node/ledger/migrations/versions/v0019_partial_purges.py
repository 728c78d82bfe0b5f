"""What retention has purged of a study that is still here, images or results; an index of quarantined results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Apply the change; nothing was purged in parts yet."""
    op.add_column("series", sa.Column("purged_images", sa.Integer(), nullable=False, server_default="0"))
    where = sa.text("quarantine IS NOT NULL")
    op.create_index("result_quarantined", "result", ["job_id"], sqlite_where=where, postgresql_where=where)
    op.add_column("job", sa.Column("results_purged_at", sa.Double(), nullable=True))

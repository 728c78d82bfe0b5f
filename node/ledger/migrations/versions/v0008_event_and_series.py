"""What a year of a million studies needs: keys of 64 bits, the size of each series; and machines that are drained."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply the change; rows that are there stay. PostgreSQL writes the events again, which takes its time."""
    if op.get_bind().dialect.name == "postgresql":  # SQLite's keys have 64 bits
        for table in ("event", "notice"):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN id TYPE BIGINT")
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS BIGINT")
    op.add_column("series", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE series SET size = (SELECT coalesce(sum(instance.size), 0) FROM instance WHERE "
        "instance.study_instance_uid = series.study_instance_uid AND "
        "instance.series_instance_uid = series.series_instance_uid)"
    )
    op.create_table(
        "drained",
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("host_name", sa.Text(), primary_key=True),
        sa.Column("at", sa.Double(), nullable=False),
    )

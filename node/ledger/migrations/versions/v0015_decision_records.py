"""Decision records, and which weights and configuration each analysis was made with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Apply the change; of earlier analyses weights and configuration are not known."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "decision_record",
        sa.Column("number", number, primary_key=True, autoincrement=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("state_digest", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
    )
    op.create_index("decision_record_study", "decision_record", ["study_instance_uid", "number"])
    op.create_index("decision_record_time", "decision_record", ["recorded_at"])
    op.add_column("job_fact", sa.Column("weights", sa.Text(), nullable=True))
    op.add_column("job_fact", sa.Column("configuration", sa.Text(), nullable=True))

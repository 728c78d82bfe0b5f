"""Images that an operator excluded, and the last image of each generation of a series for its turnaround."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Apply the change; of earlier generations, and of series that are open again, the last image is not known."""
    op.add_column("decision", sa.Column("last_image_at", sa.Double(), nullable=True))
    op.execute(
        "UPDATE decision SET last_image_at = (SELECT series.last_at FROM series"
        " WHERE series.study_instance_uid = decision.study_instance_uid"
        " AND series.series_instance_uid = decision.series_instance_uid"
        " AND series.generation = decision.generation AND series.state = 'COMPLETE')"
    )
    texts = ("sop_class_uid", "transfer_syntax_uid", "study_instance_uid", "series_instance_uid", "modality")
    op.create_table(
        "excluded",
        sa.Column("sop_instance_uid", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in (*texts, "path", "digest")),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("repeated_by", sa.Text(), nullable=True),
        sa.Column("excluded_at", sa.Double(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
    )
    op.create_index("excluded_study", "excluded", ["study_instance_uid"])

"""Tables of decisions, jobs and results in version 1.0.0; frozen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create_tables() -> None:
    """Create the tables with their indexes."""
    op.create_table(
        "candidate",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("companion", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("marks", sa.JSON(), nullable=False),
        sa.Column("region", sa.JSON(), nullable=True),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("complete_at", sa.Double(), nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.Column("chosen", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", "rule", "companion"),
    )
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.create_index("candidate_open", ["companion", "decided_at"], unique=False)
    op.create_table(
        "decision",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("incomplete", sa.Text(), nullable=True),
        sa.Column("caveat", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", "generation"),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("companions", sa.JSON(), nullable=True),
        sa.Column("destinations", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("traced_at", sa.Double(), nullable=True),
        sa.Column("incomplete", sa.Text(), nullable=True),
        sa.Column("caveat", sa.Text(), nullable=True),
        sa.Column("progress_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index("job_state", ["state", "updated_at"], unique=False)
        batch_op.create_index("job_study", ["study_instance_uid"], unique=False)
    op.create_table(
        "job_fact",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("scanner", sa.Text(), nullable=False),
        sa.Column("slices", sa.Integer(), nullable=False),
        sa.Column("voxels", sa.BigInteger(), nullable=True),
        sa.Column("slice_spacing_mm", sa.Double(), nullable=True),
        sa.Column("pixel_spacing_mm", sa.Double(), nullable=True),
        sa.Column("level_low", sa.Double(), nullable=True),
        sa.Column("level_mid", sa.Double(), nullable=True),
        sa.Column("level_high", sa.Double(), nullable=True),
        sa.Column("histogram", sa.JSON(), nullable=True),
        sa.Column("findings", sa.Integer(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("run_seconds", sa.Double(), nullable=False),
        sa.Column("host_mib", sa.Double(), nullable=True),
        sa.Column("device_mib", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    with op.batch_alter_table("job_fact", schema=None) as batch_op:
        batch_op.create_index("job_fact_pipeline", ["pipeline", "at"], unique=False)
    op.create_table(
        "original",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sop_instance_uid"),
    )
    with op.batch_alter_table("original", schema=None) as batch_op:
        batch_op.create_index("original_instance", ["sop_instance_uid"], unique=False)
    op.create_table(
        "replaced",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("note_uid", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("destination", "sop_instance_uid"),
    )
    with op.batch_alter_table("replaced", schema=None) as batch_op:
        batch_op.create_index("replaced_note", ["note_uid"], unique=False)
    op.create_table(
        "result",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("quarantine", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("analysis", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("replaces", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.create_index("result_job", ["job_id"], unique=False)

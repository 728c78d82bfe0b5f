"""Tables of version 1.0.0."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply the change; rows that are there stay."""
    op.create_table(
        "alarm",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "problem"),
    )
    op.create_table(
        "association",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("called_ae", sa.Text(), nullable=False),
        sa.Column("peer_address", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("audited_at", sa.Double(), nullable=True),
        sa.Column("equipment", sa.Text(), nullable=True),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.Column("ended_amid", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
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
        "circuit",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=True),
        sa.Column("probe_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination"),
    )
    op.create_table(
        "commitment",
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("equipment", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("calling_ae", "transaction_uid"),
    )
    op.create_table(
        "commitment_instance",
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("failure", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("calling_ae", "transaction_uid", "sop_instance_uid"),
    )
    with op.batch_alter_table("commitment_instance", schema=None) as batch_op:
        batch_op.create_index("commitment_instance_sop", ["sop_instance_uid"], unique=False)

    op.create_table(
        "conflict",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("changed", sa.Text(), nullable=True),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=True),
        sa.Column("replaced_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("path"),
    )
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
        "delivery",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("alarmed_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("audited_at", sa.Double(), nullable=True),
        sa.Column("every_kind", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "destination"),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index("delivery_state", ["state"], unique=False)

    op.create_table(
        "delivery_instance",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("transaction_uid", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.Double(), nullable=True),
        sa.Column("committed_at", sa.Double(), nullable=True),
        sa.Column("sent_syntax_uid", sa.Text(), nullable=True),
        sa.Column("sent_digest", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "destination", "sop_instance_uid"),
    )
    with op.batch_alter_table("delivery_instance", schema=None) as batch_op:
        batch_op.create_index("delivery_instance_transaction", ["transaction_uid"], unique=False)

    op.create_table(
        "delivery_kind",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "destination", "kind"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index("event_study", ["study_instance_uid", "at"], unique=False)

    op.create_table(
        "executor",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("beat_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "instance",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("repeated_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.create_index("instance_association", ["association_id"], unique=False)
        batch_op.create_index("instance_series", ["study_instance_uid", "series_instance_uid"], unique=False)

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
        "notice",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "original",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sop_instance_uid"),
    )
    with op.batch_alter_table("original", schema=None) as batch_op:
        batch_op.create_index("original_instance", ["sop_instance_uid"], unique=False)

    op.create_table(
        "procedure_step",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("equipment", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    with op.batch_alter_table("procedure_step", schema=None) as batch_op:
        batch_op.create_index("procedure_step_study", ["study_instance_uid"], unique=False)

    op.create_table(
        "procedure_step_instance",
        sa.Column("procedure_step_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("procedure_step_uid", "series_instance_uid", "sop_instance_uid"),
    )
    op.create_table(
        "refusal",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("peer_address", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("position", sa.JSON(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", "sop_instance_uid", "association_id"),
    )
    with op.batch_alter_table("refusal", schema=None) as batch_op:
        batch_op.create_index("refusal_caller", ["calling_ae", "peer_address", "at"], unique=False)

    op.create_table(
        "rejection",
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("peer_address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("calling_ae", "peer_address"),
    )
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

    op.create_table(
        "secret",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "series",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("completed_by", sa.Text(), nullable=True),
        sa.Column("completed_at", sa.Double(), nullable=True),
        sa.Column("refused_at", sa.Double(), nullable=True),
        sa.Column("doubts", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid"),
    )
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.create_index("series_state", ["state", "last_at"], unique=False)

    op.create_table(
        "stopped",
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline"),
    )

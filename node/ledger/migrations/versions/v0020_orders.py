"""Orders and messages of the information system."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_KEYS = ("accession", "accession_issuer", "placer", "filler", "patient_id", "patient_issuer")


def upgrade() -> None:
    """Apply the change; no message was received yet."""
    op.create_table(
        "order_message",
        sa.Column("id", sa.Text(), primary_key=True),
        *_texts("sender", "control_id", "kind", "peer_address", "answer", "reason"),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
    )
    op.create_index("order_message_time", "order_message", ["received_at"])
    _create_partial_index("order_message_rejected", "order_message", "received_at", "answer <> 'AA'")
    op.create_table(
        "imaging_order",
        sa.Column("id", sa.Text(), primary_key=True),
        *_texts("study_instance_uid", *_KEYS, "procedure_code", "procedure", "priority", "reason", "state"),
        *_texts("result_status", "message_id"),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("noticed_at", sa.Double(), nullable=True),
    )
    op.create_index("imaging_order_study", "imaging_order", ["study_instance_uid"])
    for name in ("accession", "placer", "filler"):
        op.create_index(f"imaging_order_{name}", "imaging_order", [name])
    op.create_index("imaging_order_patient", "imaging_order", ["patient_id"])
    op.create_index("imaging_order_time", "imaging_order", ["updated_at"])
    _create_partial_index("imaging_order_new", "imaging_order", "updated_at", "noticed_at IS NULL")
    op.create_table(
        "series_request",
        sa.Column("study_instance_uid", sa.Text(), primary_key=True),
        sa.Column("series_instance_uid", sa.Text(), primary_key=True),
        *_texts(*_KEYS),
        sa.Column("read_at", sa.Double(), nullable=False),
    )
    for name in ("accession", "placer", "filler"):
        op.create_index(f"series_request_{name}", "series_request", [name])
    op.create_index("series_request_patient", "series_request", ["patient_id"])
    op.create_table(
        "patient_change",
        sa.Column("id", sa.Text(), primary_key=True),
        *_texts("kind", "patient_id", "patient_issuer", "prior_id", "prior_issuer"),
        sa.Column("received_at", sa.Double(), nullable=False),
    )
    op.create_index("patient_change_patient", "patient_change", ["patient_id"])
    op.create_index("patient_change_prior", "patient_change", ["prior_id"])
    op.create_index("patient_change_time", "patient_change", ["received_at"])


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _create_partial_index(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))

"""What the information system said: messages, orders and changes of patients; and what images say of their order."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import metadata, reason, text, time

_REJECTED = sa.text("answer <> 'AA'")
_NEW = sa.text("noticed_at IS NULL")
_PENDING = sa.text("state = 'pending'")

order_message = sa.Table(  # an HL7 message that was answered; the same one again gets the same answer
    "order_message",
    metadata,
    text("id", key=True),  # SHA-256 of sender, control ID and content
    text("sender"),  # MSH-3 and MSH-4
    text("control_id"),  # MSH-10
    text("kind"),  # MSH-9, such as ORM^O01; "": not readable
    text("peer_address"),
    text("answer"),  # MSA-1: AA, AE or AR
    text("reason"),  # why it was not accepted; "": it was
    sa.Column("content", sa.LargeBinary, nullable=True),  # first bytes of one that was not accepted
    time("received_at"),
    sa.Index("order_message_time", "received_at"),
    sa.Index("order_message_rejected", "received_at", sqlite_where=_REJECTED, postgresql_where=_REJECTED),
)

imaging_order = sa.Table(
    "imaging_order",
    metadata,
    text("id", key=True),
    text("study_instance_uid"),  # "": not known, as in all texts here
    text("accession"),
    text("accession_issuer"),
    text("placer"),
    text("filler"),
    text("patient_id"),
    text("patient_issuer"),
    text("procedure_code"),
    text("procedure"),
    text("priority"),  # of node.config.order_values
    text("reason"),
    text("state"),  # OrderState
    text("result_status"),  # OBR-25 of a report on it
    text("message_id"),  # the last message about it; "worklist": none, the worklist has it
    time("received_at"),
    time("updated_at"),
    time("noticed_at", null=True),  # when the router applied it to what it had decided; null: not yet
    sa.Index("imaging_order_study", "study_instance_uid"),
    sa.Index("imaging_order_accession", "accession"),
    sa.Index("imaging_order_placer", "placer"),
    sa.Index("imaging_order_filler", "filler"),
    sa.Index("imaging_order_patient", "patient_id"),
    sa.Index("imaging_order_time", "updated_at"),
    sa.Index("imaging_order_new", "updated_at", sqlite_where=_NEW, postgresql_where=_NEW),
)

series_request = sa.Table(  # what the images of a complete series say of their order; goes with the study
    "series_request",
    metadata,
    text("study_instance_uid", key=True),
    text("series_instance_uid", key=True),
    text("accession"),
    text("accession_issuer"),
    text("placer"),
    text("filler"),
    text("patient_id"),
    text("patient_issuer"),
    time("read_at"),
    sa.Index("series_request_accession", "accession"),
    sa.Index("series_request_placer", "placer"),
    sa.Index("series_request_filler", "filler"),
    sa.Index("series_request_patient", "patient_id"),
)

worklist_query = sa.Table(  # for studies without an order: what the worklist was asked; goes with the study
    "worklist_query",
    metadata,
    text("study_instance_uid", key=True),
    text("accession", key=True),
    text("patient_id", key=True),
    text("accession_issuer"),
    text("placer"),
    text("filler"),
    text("patient_issuer"),
    text("study_date"),  # Study Date (0008,0020)
    text("modality"),
    text("state"),  # WorklistState
    reason("reason", null=True),  # why there is no order; null: not known yet, or there is one
    sa.Column("failures", sa.Integer, nullable=False),  # attempts without an answer
    time("asked_at"),  # when the router wanted it first
    time("due_at"),  # of the next attempt
    time("answered_at", null=True),
    sa.Index("worklist_query_due", "due_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
)

patient_change = sa.Table(  # a merge (ADT^A40) or an update (ADT^A08) of a patient
    "patient_change",
    metadata,
    text("id", key=True),
    text("kind"),  # ChangeKind
    text("patient_id"),  # that counts from now on
    text("patient_issuer"),
    text("prior_id"),  # that a merge ended; "" of an update
    text("prior_issuer"),
    time("received_at"),
    sa.Index("patient_change_patient", "patient_id"),
    sa.Index("patient_change_prior", "prior_id"),
    sa.Index("patient_change_time", "received_at"),
)

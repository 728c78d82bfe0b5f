"""What each destination gets and has confirmed."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import metadata, text, time

_OPEN = sa.text("ended_at IS NULL")
_UNAUDITED = sa.text("audited_at IS NULL")

delivery = sa.Table(
    "delivery",
    metadata,
    text("job_id", key=True),
    text("destination", key=True),
    text("state"),  # DeliveryState
    sa.Column("attempt", sa.Integer, nullable=False),
    time("next_at", null=True),
    text("error", null=True),
    time("ended_at", null=True),  # no further attempt will come, whatever the state
    time("alarmed_at", null=True),  # when it was reported as overdue
    time("created_at"),
    time("updated_at"),
    time("audited_at", null=True),  # when the audit trail recorded it
    sa.Column("every_kind", sa.Boolean, nullable=False, default=True),  # else the kinds of delivery_kind
    sa.Index("delivery_state", "state"),
    sa.Index("delivery_open", "destination", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("delivery_unaudited", "state", sqlite_where=_UNAUDITED, postgresql_where=_UNAUDITED),
)

delivery_kind = sa.Table(  # kinds of results that a delivery is about
    "delivery_kind",
    metadata,
    text("job_id", key=True),
    text("destination", key=True),
    text("kind", key=True),
)

delivery_instance = sa.Table(
    "delivery_instance",
    metadata,
    text("job_id", key=True),
    text("destination", key=True),
    text("sop_instance_uid", key=True),
    sa.Column("status", sa.Integer, nullable=True),  # of the last C-STORE response
    text("comment", null=True),
    time("sent_at", null=True),
    text("transaction_uid", null=True),  # of the last Storage Commitment request
    time("asked_at", null=True),  # when that request was made
    time("committed_at", null=True),  # proof that the destination keeps it: Storage Commitment, or asked for and found
    text("sent_syntax_uid", null=True),  # null: the file was sent as it is
    text("sent_digest", null=True),  # of the data set as it was sent, when transcoded
    sa.Index("delivery_instance_transaction", "transaction_uid"),
    sa.Index("delivery_instance_object", "sop_instance_uid"),
)

circuit = sa.Table(  # a destination that could not be reached; no row: it was reached
    "circuit",
    metadata,
    text("destination", key=True),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    time("opened_at", null=True),  # since when its deliveries wait for a probe
    time("probe_at", null=True),
    text("error"),
)

"""What outlives the rows of studies for years: decision records."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import metadata, text, time

decision_record = sa.Table(  # append-only; numbered without gaps, each with the digest of the one before
    "decision_record",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    text("study_instance_uid"),  # "": it is about records that have expired
    text("state_digest"),  # SHA-256 of what it says of the study: the same is not recorded twice
    text("patient"),  # keyed hash; "": not known
    sa.Column("record", sa.Text, nullable=False),  # canonical JSON, escaped where it was read from the ledger
    text("signature"),  # Ed25519, hexadecimal
    time("recorded_at"),
    sa.Index("decision_record_study", "study_instance_uid", "number"),
    sa.Index("decision_record_time", "recorded_at"),
)

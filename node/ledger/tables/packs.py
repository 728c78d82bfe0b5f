"""Packs in the object store, and the files that they hold."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import metadata, text, time

pack = sa.Table(
    "pack",
    metadata,
    text("name", key=True),  # below the prefix of the store; it is made of the digest of the content
    text("state"),  # PackState
    text("claim"),  # MEMBER/RANDOM of who writes it
    text("study_instance_uid"),
    text("series_instance_uid"),
    sa.Column("size", sa.BigInteger, nullable=False),
    time("at"),  # of the claim, then of the verification
    text("error", null=True),  # of the last attempt to write it
    sa.Index("pack_state", "state", "at"),
)

packed = sa.Table(  # files that a verified pack holds
    "packed",
    metadata,
    text("path", key=True),  # relative to the storage folder, as in instance
    text("pack"),
    sa.Column("position", sa.BigInteger, nullable=False),  # of its first byte in the pack
    sa.Column("size", sa.BigInteger, nullable=False),
    text("digest"),
    sa.Index("packed_pack", "pack"),
)

store_outage = sa.Table(  # the store, which a machine cannot use; no row: it can
    "store_outage",
    metadata,
    text("machine", key=True),  # as in member
    time("since"),
    text("error"),
)

"""What was received: associations, instances, series, and what senders say about them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from node.ledger.tables.columns import json, metadata, text, time

_OPEN = sa.text("closed_at IS NULL")
_UNAUDITED = sa.text("audited_at IS NULL")

association = sa.Table(
    "association",
    metadata,
    text("id", key=True),
    text("receiver"),  # member that serves it; when it is dead, another one closes it
    text("calling_ae"),
    text("called_ae"),
    text("peer_address"),
    time("opened_at"),
    time("closed_at", null=True),
    time("audited_at", null=True),  # when the audit trail recorded it
    text("equipment", null=True),  # which device calls (receive.policy); null: an older version kept its address only
    text("ending", null=True),  # AssociationEnding; null: open, or closed by an older version
    text("ended_amid", null=True),  # EndedAmid
    sa.Index("association_open", "receiver", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("association_caller", "calling_ae", "peer_address", "opened_at"),
    sa.Index("association_unaudited", "closed_at", sqlite_where=_UNAUDITED, postgresql_where=_UNAUDITED),
)


def _image() -> list[sa.Column[Any]]:
    return [
        text("sop_instance_uid", key=True),
        text("sop_class_uid"),
        text("transfer_syntax_uid"),
        text("study_instance_uid"),
        text("series_instance_uid"),
        text("modality"),  # "" when the file does not say
        text("path"),
        text("digest"),
        sa.Column("size", sa.BigInteger, nullable=False),
        text("association_id", null=True),  # null: found in the spool at start-up
        time("received_at"),
        text("repeated_by", null=True),  # the last association that sent the same image again
    ]


instance = sa.Table(
    "instance",
    metadata,
    *_image(),
    sa.Index("instance_series", "study_instance_uid", "series_instance_uid"),
    sa.Index("instance_association", "association_id"),
)

excluded = sa.Table(  # an image that an operator has taken out of its held series; its file stays
    "excluded",
    metadata,
    *_image(),
    time("excluded_at"),
    text("who"),
    text("why"),
    sa.Index("excluded_study", "study_instance_uid"),
)

conflict = sa.Table(  # same SOP Instance UID, different bytes: both are kept, and the operator sees it
    "conflict",
    metadata,
    text("path", key=True),
    text("sop_instance_uid"),
    text("study_instance_uid"),
    text("series_instance_uid"),
    text("digest"),
    sa.Column("size", sa.BigInteger, nullable=False),
    text("association_id", null=True),
    time("received_at"),
    text("kind", null=True),  # ConflictKind; null: not compared yet
    text("changed", null=True),  # keywords of what differs
    text("transfer_syntax_uid", null=True),
    time("replaced_at", null=True),  # since when another identity counts in place of this one; null: it came after
)

commitment = sa.Table(  # Storage Commitment that a peer asked this node for
    "commitment",
    metadata,
    text("calling_ae", key=True),
    text("transaction_uid", key=True),
    text("association_id"),
    text("state"),  # CommitmentState
    sa.Column("attempt", sa.Integer, nullable=False),
    time("next_at", null=True),
    text("error", null=True),
    time("asked_at"),
    time("updated_at"),
    text("equipment", null=True),  # as in association; null: not known, its list completes no series
    sa.Column("named", sa.Integer, nullable=False, server_default="0"),  # instances that it names
    sa.Index("commitment_equipment", "equipment"),
)

commitment_instance = sa.Table(
    "commitment_instance",
    metadata,
    text("calling_ae", key=True),
    text("transaction_uid", key=True),
    text("sop_instance_uid", key=True),
    text("sop_class_uid"),
    sa.Column("failure", sa.Integer, nullable=True),  # Failure Reason (0008,1197); null: committed
    sa.Index("commitment_instance_sop", "sop_instance_uid"),
)

procedure_step = sa.Table(  # Modality Performed Procedure Step
    "procedure_step",
    metadata,
    text("sop_instance_uid", key=True),
    text("study_instance_uid"),
    text("modality"),
    text("calling_ae"),
    text("state"),  # ProcedureStepState
    time("created_at"),
    time("updated_at"),
    text("equipment", null=True),  # as in association; null: not known, it says nothing about any series
    sa.Column("named", sa.Integer, nullable=False, server_default="0"),  # instances and series that it names
    sa.Index("procedure_step_study", "study_instance_uid"),
    sa.Index("procedure_step_equipment", "equipment"),
)

procedure_step_instance = sa.Table(  # what a step says that it made; an empty SOP Instance UID: the series as such
    "procedure_step_instance",
    metadata,
    text("procedure_step_uid", key=True),
    text("series_instance_uid", key=True),
    text("sop_instance_uid", key=True),
)

series = sa.Table(
    "series",
    metadata,
    text("study_instance_uid", key=True),
    text("series_instance_uid", key=True),
    text("modality"),
    sa.Column("instances", sa.Integer, nullable=False),
    time("first_at"),
    time("last_at"),
    text("state"),  # SeriesState; a late image makes it RECEIVING again
    sa.Column("generation", sa.Integer, nullable=False),  # how often it has been complete
    text("completed_by", null=True),  # code of the signal, which is an event
    time("completed_at", null=True),
    time("refused_at", null=True),  # when the node last learned that an image of it was not taken
    sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),  # of its instances, bytes
    # images that retention has purged, until as many are here again
    sa.Column("purged_images", sa.Integer, nullable=False, server_default="0"),
    json("doubts", null=True),  # why it is not complete yet: {"about", "seconds", "until"}
    sa.Column("packed_generation", sa.Integer, nullable=True),  # the last one of which every image is in a pack
    sa.Index("series_state", "state", "last_at"),
    sa.Index("series_last", "last_at"),
    sa.Index("series_first", "first_at"),
)

refusal = sa.Table(  # an image that was not taken; a row of ``instance`` with its UIDs says that it came later
    "refusal",
    metadata,
    text("study_instance_uid", key=True),  # "" when the data set did not say
    text("series_instance_uid", key=True),
    text("sop_instance_uid", key=True),  # "": unusable, or one of too many to name each
    text("association_id", key=True),
    text("calling_ae"),
    text("peer_address"),
    sa.Column("status", sa.Integer, nullable=True),  # of the C-STORE response; null: its message was cut off
    text("reason"),
    sa.Column("images", sa.Integer, nullable=False),
    json("position", null=True),  # Image Position (Patient), LPS mm; null: not known
    time("at"),
    sa.Index("refusal_caller", "calling_ae", "peer_address", "at"),
)

rejection = sa.Table(  # the last association of a caller that was rejected
    "rejection",
    metadata,
    text("calling_ae", key=True),
    text("peer_address", key=True),
    text("reason"),
    time("at"),
)

"""What readers say about results: objects that were looked at, and verdicts. Verdicts outlive their study."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import json, metadata, number, reason, text, time

_CURRENT = sa.text("superseded_at IS NULL")

reader_object = sa.Table(  # a received object that may hold verdicts, and what was read in it
    "reader_object",
    metadata,
    text("sop_instance_uid", key=True),
    text("study_instance_uid"),
    sa.Column("verdicts", sa.Integer, nullable=False),
    reason("reason", null=True),  # why it holds none; null: it holds some
    time("read_at"),
    sa.Index("reader_object_study", "study_instance_uid"),
)

reader_query = sa.Table(  # what an archive was asked for on behalf of verdicts; goes with the study
    "reader_query",
    metadata,
    text("study_instance_uid", key=True),
    text("series_instance_uid", key=True),  # a series that it was asked to send; "": what it has of the study
    time("asked_at"),
)

verdict = sa.Table(  # names nobody and outlives its study, as job_fact does
    "verdict",
    metadata,
    text("source", key=True),  # SOP Instance UID of the object; of a click "click" and the reader
    text("job_id", key=True),
    text("lesion", key=True),  # Tracking UID; of an added lesion its own name; "": the whole analysis
    text("kind"),  # of node.ledger.verdict.SourceKind
    text("verdict"),  # of node.ledger.verdict.Verdict
    text("matched_by", null=True),  # of node.ledger.verdict.MatchedBy; null: nothing had to be matched
    text("reader"),  # keyed hash; "": the object names nobody
    time("given_at"),  # when it was received
    text("content_time", null=True),  # Content Date and Time, as the object has them
    number("dice", null=True),  # of an edited lesion
    number("hd95_mm", null=True),
    number("volume_mm3", null=True),  # of the node's mask
    number("reader_volume_mm3", null=True),
    time("superseded_at", null=True),  # since when a later verdict counts in its place
    sa.Index("verdict_current", "job_id", sqlite_where=_CURRENT, postgresql_where=_CURRENT),
)

promotion = sa.Table(  # a candidate that answers, or once did, in the place of a champion
    "promotion",
    metadata,
    text("champion", key=True),
    text("candidate", key=True),
    time("promoted_at"),
    text("who"),
    text("reason"),
    time("rolled_back_at", null=True),  # null: it answers
)

quality_stop = sa.Table(  # a pipeline whose stop rule has tripped, for the last time
    "quality_stop",
    metadata,
    text("pipeline", key=True),
    time("stopped_at"),
    reason("why"),
    time("resumed_at", null=True),  # null: its results are kept in shadow
)

acceptance = sa.Table(  # a report of an acceptance test of one version of a pipeline on this site's studies
    "acceptance",
    metadata,
    text("id", key=True),
    text("pipeline"),  # as it was configured
    text("version"),  # of the algorithm
    text("weights", null=True),  # SHA-256; null: the algorithm has none
    text("options"),  # digest of factory and options, as node.config.PipelineTable computes it
    text("configuration"),  # Config.digest
    text("data"),  # SHA-256 of the digests of all files that were tested
    text("who"),  # that ran the test
    time("tested_at"),
    json("report"),  # as node.feedback.acceptance_figures; names nobody
    text("approved_by", null=True),  # null: it allows nothing
    time("approved_at", null=True),
    text("reason", null=True),  # of the approval, or of its withdrawal
    time("withdrawn_at", null=True),  # null: the approval counts
    sa.Index("acceptance_version", "options", "version"),
)

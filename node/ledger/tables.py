"""Tables of the ledger. Times (``*_at``) are seconds since 1970 UTC; paths are relative to ``[storage] folder``."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


RENAMED = {
    "instance": {"sha256": "digest"},
    "conflict": {"sha256": "digest"},
    "result": {"sha256": "digest"},
    "delivery_instance": {"sent_sha256": "sent_digest"},
}
"""Columns that had another name in older versions, by table: before -> now."""


def _text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null, primary_key=key)


def _number(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


_time = _number


association = sa.Table(
    "association",
    metadata,
    _text("id", key=True),
    _text("receiver"),  # process that serves it: a name in the spool; when it is dead, another one closes it
    _text("calling_ae"),
    _text("called_ae"),
    _text("peer_address"),
    _time("opened_at"),
    _time("closed_at", null=True),
    _time("audited_at", null=True),  # when the audit trail told of it
    _text("equipment", null=True),  # which device calls (receive.policy); null: an older version kept its address only
    _text("ending", null=True),  # see node.ledger.association_endings; null: open, or closed by an older version
    _text("ended_amid", null=True),  # message: one was being received; refusal: the last one had been refused
)

instance = sa.Table(
    "instance",
    metadata,
    _text("sop_instance_uid", key=True),
    _text("sop_class_uid"),
    _text("transfer_syntax_uid"),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("modality"),  # "" when the file does not say
    _text("path"),
    _text("digest"),
    sa.Column("size", sa.BigInteger, nullable=False),
    _text("association_id", null=True),  # null: found in the spool at start-up
    _time("received_at"),
    _text("repeated_by", null=True),  # the last association that sent the same image again
    sa.Index("instance_series", "study_instance_uid", "series_instance_uid"),
    sa.Index("instance_association", "association_id"),
)

conflict = sa.Table(  # same SOP Instance UID, different bytes: kept beside, shown to the operator
    "conflict",
    metadata,
    _text("path", key=True),
    _text("sop_instance_uid"),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("digest"),
    sa.Column("size", sa.BigInteger, nullable=False),
    _text("association_id", null=True),
    _time("received_at"),
    _text("kind", null=True),  # identity, encoding, content; null: not compared yet
    _text("changed", null=True),  # keywords of what differs
    _text("transfer_syntax_uid", null=True),
    _time("replaced_at", null=True),  # since when another identity counts in place of this one; null: it came after
)

commitment = sa.Table(  # Storage Commitment that a peer asked this node for
    "commitment",
    metadata,
    _text("calling_ae", key=True),
    _text("transaction_uid", key=True),
    _text("association_id"),
    _text("state"),  # SCHEDULED, COMPLETED (the peer took the answer), CANCELED (it was given up)
    sa.Column("attempt", sa.Integer, nullable=False),
    _time("next_at", null=True),
    _text("error", null=True),
    _time("asked_at"),
    _time("updated_at"),
    _text("equipment", null=True),  # as in association; null: not known, its list completes no series
)

commitment_instance = sa.Table(
    "commitment_instance",
    metadata,
    _text("calling_ae", key=True),
    _text("transaction_uid", key=True),
    _text("sop_instance_uid", key=True),
    _text("sop_class_uid"),
    sa.Column("failure", sa.Integer, nullable=True),  # Failure Reason (0008,1197); null: committed
    sa.Index("commitment_instance_sop", "sop_instance_uid"),
)

procedure_step = sa.Table(  # Modality Performed Procedure Step
    "procedure_step",
    metadata,
    _text("sop_instance_uid", key=True),
    _text("study_instance_uid"),
    _text("modality"),
    _text("calling_ae"),
    _text("state"),  # PS3.4 F.7: IN PROGRESS, COMPLETED, DISCONTINUED
    _time("created_at"),
    _time("updated_at"),
    _text("equipment", null=True),  # as in association; null: not known, it says nothing about any series
    sa.Index("procedure_step_study", "study_instance_uid"),
)

procedure_step_instance = sa.Table(  # what a step says that it made; an empty SOP Instance UID: the series as such
    "procedure_step_instance",
    metadata,
    _text("procedure_step_uid", key=True),
    _text("series_instance_uid", key=True),
    _text("sop_instance_uid", key=True),
)

series = sa.Table(
    "series",
    metadata,
    _text("study_instance_uid", key=True),
    _text("series_instance_uid", key=True),
    _text("modality"),
    sa.Column("instances", sa.Integer, nullable=False),
    _time("first_at"),
    _time("last_at"),
    _text("state"),  # RECEIVING, COMPLETE; a late image makes it RECEIVING again
    sa.Column("generation", sa.Integer, nullable=False),  # how often it has been complete
    _text("completed_by", null=True),  # the signal, in words
    _time("completed_at", null=True),
    _time("refused_at", null=True),  # when the node last learned that an image of it was not taken
    sa.Column("doubts", sa.JSON, nullable=True),  # why it is not complete yet: {"about", "until"}; null: no doubt
    sa.Index("series_state", "state", "last_at"),
)

refusal = sa.Table(  # an image that was not taken; a row of ``instance`` with its UIDs says that it came later
    "refusal",
    metadata,
    _text("study_instance_uid", key=True),  # "" when the data set did not say
    _text("series_instance_uid", key=True),
    _text("sop_instance_uid", key=True),  # "": unusable, or one of too many to name each
    _text("association_id", key=True),
    _text("calling_ae"),
    _text("peer_address"),
    sa.Column("status", sa.Integer, nullable=True),  # of the C-STORE response; null: its message was cut off
    _text("reason"),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("position", sa.JSON, nullable=True),  # Image Position (Patient), LPS mm; null: not known
    _time("at"),
    sa.Index("refusal_caller", "calling_ae", "peer_address", "at"),
)

rejection = sa.Table(  # the last association of a caller that was rejected
    "rejection",
    metadata,
    _text("calling_ae", key=True),
    _text("peer_address", key=True),
    _text("reason"),
    _time("at"),
)

decision = sa.Table(  # one per generation of a series: what was decided and the trace that explains it
    "decision",
    metadata,
    _text("study_instance_uid", key=True),
    _text("series_instance_uid", key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    _text("outcome"),  # routed, ignored
    _text("reason"),
    sa.Column("trace", sa.JSON, nullable=False),
    _time("decided_at"),
    _text("cause", null=True),  # "discontinued": a procedure step stopped it; null: the rules decided
    _text("incomplete", null=True),  # what of this generation is known to be missing, in words for a radiologist
    _text("caveat", null=True),  # what may be missing, likewise
)

candidate = sa.Table(  # a series that a rule of studies weighs against others, or a companion that it looks for
    "candidate",
    metadata,
    _text("study_instance_uid", key=True),
    _text("series_instance_uid", key=True),
    _text("rule", key=True),
    _text("companion", key=True),  # its name; "": the series matches the rule itself
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("marks", sa.JSON, nullable=False),  # [number, words] by each preference of the rule; smaller is better
    sa.Column("region", sa.JSON, nullable=True),  # as node.routing.region; null: not known
    sa.Column("urgent", sa.Boolean, nullable=False),
    _time("complete_at"),
    _time("decided_at", null=True),  # null: the rule still waits; always null for companions
    sa.Column("chosen", sa.Boolean, nullable=True),  # null: not decided
    sa.Index("candidate_open", "companion", "decided_at"),
)

job = sa.Table(  # one per pipeline and generation of a series
    "job",
    metadata,
    _text("id", key=True),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    sa.Column("generation", sa.Integer, nullable=False),
    _text("pipeline"),
    _text("rule"),
    sa.Column("companions", sa.JSON, nullable=True),  # Series Instance UID by name; null: none
    sa.Column("destinations", sa.JSON, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),  # 1 high, 2 medium, 3 low
    _text("state"),  # PS3.4 CC.1.1: SCHEDULED, IN PROGRESS, COMPLETED, CANCELED
    _text("stage"),  # infer, encode, deliver
    sa.Column("run", sa.Integer, nullable=False),  # grows with retry and re-enqueue; part of the workflow id
    sa.Column("attempt", sa.Integer, nullable=False),
    _time("next_at", null=True),
    _text("outcome", null=True),  # of node.config.routing.Outcome
    _text("reason", null=True),  # of the outcome or of the cancellation, in words
    _text("error", null=True),  # of the last attempt
    _time("created_at"),
    _time("updated_at"),
    _time("traced_at", null=True),  # when its trace was sent to a collector
    _text("incomplete", null=True),  # as of its generation's decision: no outcome says more than *partial* then
    _text("caveat", null=True),
    _time("progress_at", null=True),  # when it entered its stage; null: before this was kept
    sa.Index("job_study", "study_instance_uid"),
    sa.Index("job_state", "state", "updated_at"),
)

result = sa.Table(  # an encoded object; stored before it is sent
    "result",
    metadata,
    _text("sop_instance_uid", key=True),
    _text("job_id"),
    _text("sop_class_uid"),
    _text("transfer_syntax_uid"),
    _text("series_instance_uid"),
    _text("description"),
    _text("path"),
    _text("digest"),
    sa.Column("size", sa.BigInteger, nullable=False),
    _text("quarantine", null=True),  # why the gate holds it back
    _time("created_at"),
    _text("kind", null=True),  # as node.results names it; null: made before kinds were kept
    _text("analysis", null=True),  # key of the analysis; null: made before versions were counted, or a rejection note
    sa.Column("version", sa.Integer, nullable=True),  # from 2 on it takes the place of another result; null: 1
    _text("replaces", null=True),  # when the result was made whose place it takes, see node.results.predecessor
    sa.Index("result_job", "job_id"),
)

replaced = sa.Table(  # a result that a destination holds and that another result has taken the place of
    "replaced",
    metadata,
    _text("destination", key=True),
    _text("sop_instance_uid", key=True),
    _text("job_id"),  # that has replaced it
    _text("path"),
    _text("note_uid", null=True),  # SOP Instance UID of the rejection note that names it; "": given up; null: none yet
    sa.Index("replaced_note", "note_uid"),
)

original = sa.Table(  # an image that a job sends on as it was received; a corrected one belongs to two
    "original",
    metadata,
    _text("job_id", key=True),
    _text("sop_instance_uid", key=True),
    sa.Index("original_instance", "sop_instance_uid"),
)

delivery = sa.Table(
    "delivery",
    metadata,
    _text("job_id", key=True),
    _text("destination", key=True),
    _text("state"),  # SCHEDULED, IN PROGRESS, STORED (every C-STORE answered), CONFIRMED (commitment), CANCELED
    sa.Column("attempt", sa.Integer, nullable=False),
    _time("next_at", null=True),
    _text("error", null=True),
    _time("ended_at", null=True),  # no further attempt will come, whatever the state
    _time("alarmed_at", null=True),  # when it was reported as overdue
    _time("created_at"),
    _time("updated_at"),
    _time("audited_at", null=True),  # when the audit trail told of it
    sa.Column("every_kind", sa.Boolean, nullable=False, default=True),  # else the kinds of delivery_kind
    sa.Index("delivery_state", "state"),
)

delivery_kind = sa.Table(  # kinds of results that a delivery is about
    "delivery_kind",
    metadata,
    _text("job_id", key=True),
    _text("destination", key=True),
    _text("kind", key=True),
)

delivery_instance = sa.Table(
    "delivery_instance",
    metadata,
    _text("job_id", key=True),
    _text("destination", key=True),
    _text("sop_instance_uid", key=True),
    sa.Column("status", sa.Integer, nullable=True),  # of the last C-STORE response
    _text("comment", null=True),
    _time("sent_at", null=True),
    _text("transaction_uid", null=True),  # of the last Storage Commitment request
    _time("asked_at", null=True),  # when that request was made
    _time("committed_at", null=True),  # proof that the destination keeps it: Storage Commitment, or asked for and found
    _text("sent_syntax_uid", null=True),  # null: the file was sent as it is
    _text("sent_digest", null=True),  # of the data set as it was sent, when transcoded
    sa.Index("delivery_instance_transaction", "transaction_uid"),
)

circuit = sa.Table(  # a destination that could not be reached lately; no row: it was
    "circuit",
    metadata,
    _text("destination", key=True),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    _time("opened_at", null=True),  # since when its deliveries wait for a probe
    _time("probe_at", null=True),
    _text("error"),
)

stopped = sa.Table(  # pipelines whose jobs wait because an operator wants it
    "stopped",
    metadata,
    _text("pipeline", key=True),
    _time("at"),
    _text("who"),
)

job_fact = sa.Table(  # what an analysis was like; names nobody and outlives its study, so that drift can be seen
    "job_fact",
    metadata,
    _text("job_id", key=True),
    _text("pipeline"),
    _time("at"),
    _text("outcome"),
    _text("scanner"),
    sa.Column("slices", sa.Integer, nullable=False),
    sa.Column("voxels", sa.BigInteger, nullable=True),
    _number("slice_spacing_mm", null=True),
    _number("pixel_spacing_mm", null=True),
    _number("level_low", null=True),  # 5th percentile of the grey levels, in the unit of the series (CT: HU)
    _number("level_mid", null=True),
    _number("level_high", null=True),  # 95th percentile
    sa.Column(
        "histogram", sa.JSON, nullable=True
    ),  # CT: shares of grey levels, see node.inference.analysis_statistics; else null
    sa.Column("findings", sa.Integer, nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),  # probability of each finding, 0 to 1
    _text("device"),
    _number("run_seconds"),
    _number("host_mib", null=True),  # peak memory
    _number("device_mib", null=True),
    sa.Index("job_fact_pipeline", "pipeline", "at"),
)

alarm = sa.Table(  # a problem that people were told of and that lasts
    "alarm",
    metadata,
    _text("channel", key=True),  # mail, webhook
    _text("problem", key=True),
    _text("text"),
    _time("at"),
)

event = sa.Table(  # the timeline that `explain` and the dashboard show
    "event",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    _time("at"),
    _text("study_instance_uid"),
    _text("series_instance_uid", null=True),
    _text("job_id", null=True),
    _text("kind"),  # of node.ledger.events.EventKind
    _text("stage", null=True),
    sa.Column("attempt", sa.Integer, nullable=True),  # from 1
    _number("seconds", null=True),  # that the attempt took
    _text("destination", null=True),
    _text("error_code", null=True),  # of node.errors
    sa.Column("parameters", sa.JSON, nullable=False),  # what else its sentence needs
    sa.Index("event_study", "study_instance_uid", "at"),
)

executor = sa.Table(  # heartbeat of every process that executes stages
    "executor",
    metadata,
    _text("id", key=True),
    _text("role"),
    _text("host"),
    sa.Column("pid", sa.Integer, nullable=False),
    _time("beat_at"),
)

notice = sa.Table(  # for the audit trail, which takes the rows away
    "notice",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    _time("at"),
    _text("what"),
    _text("who"),
    _text("address"),
    _text("detail"),
)

secret = sa.Table(  # one row, "salt": what makes UIDs of results unpredictable; see node.inference.node_secret
    "secret",
    metadata,
    _text("name", key=True),
    _text("value"),
    _time("made_at"),
)

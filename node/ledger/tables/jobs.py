"""What was decided and analysed: decisions, candidates, jobs and their results."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import json, metadata, number, reason, text, time

_URGENT = sa.text("urgent IS NOT NULL")
_QUARANTINED = sa.text("quarantine IS NOT NULL")

decision = sa.Table(  # one per generation of a series: what was decided and the trace that explains it
    "decision",
    metadata,
    text("study_instance_uid", key=True),
    text("series_instance_uid", key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    text("outcome"),  # DecisionOutcome
    reason("reason"),
    json("trace"),
    time("decided_at"),
    text("cause", null=True),  # DecisionCause; null: the rules decided
    reason("incomplete", null=True),  # what of this generation is known to be missing
    reason("caveat", null=True),  # what may be missing
    json("characteristics", null=True),  # as node.studies.characteristics; null: its headers were not read
    time("last_image_at", null=True),  # of the images of this generation; null: decided before this was kept
    sa.Index("decision_outcome", "outcome"),
    sa.Index("decision_cause", "cause", "decided_at"),
)

candidate = sa.Table(  # a series that a rule of studies weighs against others, or a companion that it looks for
    "candidate",
    metadata,
    text("study_instance_uid", key=True),
    text("series_instance_uid", key=True),
    text("rule", key=True),
    text("companion", key=True),  # its name; "": the series matches the rule itself
    sa.Column("generation", sa.Integer, nullable=False),
    json("marks"),  # [number, reason] by each preference of the rule; smaller is better
    json("region", null=True),  # as node.routing.region; null: not known
    sa.Column("urgent", sa.Boolean, nullable=False),
    time("complete_at"),
    time("decided_at", null=True),  # null: the rule still waits; always null for companions
    sa.Column("chosen", sa.Boolean, nullable=True),  # null: not decided
    sa.Index("candidate_open", "companion", "decided_at"),
)

job = sa.Table(  # one per pipeline and generation of a series
    "job",
    metadata,
    text("id", key=True),
    text("study_instance_uid"),
    text("series_instance_uid"),
    sa.Column("generation", sa.Integer, nullable=False),
    text("pipeline"),
    text("rule"),
    json("companions", null=True),  # Series Instance UID by name; null: none
    json("destinations"),
    sa.Column("priority", sa.Integer, nullable=False),  # 1 high, 2 medium, 3 low, 4 in shadow
    text("state"),  # JobState
    text("stage"),  # JobStage
    sa.Column("run", sa.Integer, nullable=False),  # grows with retry and re-enqueue; part of the workflow id
    sa.Column("attempt", sa.Integer, nullable=False),
    time("next_at", null=True),
    text("outcome", null=True),  # of node.outcome.Outcome, or WithoutAnalysis
    reason("reason", null=True),  # of the outcome or of the cancellation
    text("error", null=True),  # of the last attempt
    time("created_at"),
    time("updated_at"),
    time("traced_at", null=True),  # when its trace was sent to a collector
    reason("incomplete", null=True),  # as of its generation's decision: no outcome says more than *partial* then
    reason("caveat", null=True),
    time("progress_at", null=True),  # when it entered its stage; null: before this was kept
    text("shadow", null=True),  # ShadowCause: why its results are sent nowhere; null: they are sent
    time("results_purged_at", null=True),  # when retention purged its results; null: they are here, or it has none
    text("after", null=True),  # pipeline whose result on the same generation it needs; null: none
    reason("urgent", null=True),  # the measurement beyond a limit of its rule; null: there is none
    sa.Index("job_study", "study_instance_uid"),
    sa.Index("job_state", "state", "updated_at"),
    sa.Index("job_outcome", "outcome", "updated_at"),
    sa.Index("job_urgent", "updated_at", sqlite_where=_URGENT, postgresql_where=_URGENT),
)

job_fact = sa.Table(  # what an analysis was like; names nobody and outlives its study, so that drift can be seen
    "job_fact",
    metadata,
    text("job_id", key=True),
    text("pipeline"),
    time("at"),
    text("outcome"),
    text("scanner"),
    sa.Column("slices", sa.Integer, nullable=False),
    sa.Column("voxels", sa.BigInteger, nullable=True),
    number("slice_spacing_mm", null=True),
    number("pixel_spacing_mm", null=True),
    number("level_low", null=True),  # 5th percentile of the grey levels, in the unit of the series (CT: HU)
    number("level_mid", null=True),
    number("level_high", null=True),  # 95th percentile
    json("histogram", null=True),  # CT: shares of grey levels, see node.inference.analysis_statistics; else null
    sa.Column("findings", sa.Integer, nullable=False),
    json("scores"),  # probability of each finding, 0 to 1
    text("device"),
    number("run_seconds"),
    number("host_mib", null=True),  # peak memory
    number("device_mib", null=True),
    text("version", null=True),  # of the algorithm; null: before this was kept
    text("shadow", null=True),  # as of its job
    text("weights", null=True),  # SHA-256; null: the algorithm has none, or before this was kept
    text("configuration", null=True),  # Config.digest of the worker; null: before this was kept
    sa.Index("job_fact_pipeline", "pipeline", "at"),
    sa.Index("job_fact_quality", "at", "pipeline", "version", "scanner", "outcome", "findings", "job_id", "shadow"),
)

result = sa.Table(  # an encoded object; stored before it is sent
    "result",
    metadata,
    text("sop_instance_uid", key=True),
    text("job_id"),
    text("sop_class_uid"),
    text("transfer_syntax_uid"),
    text("series_instance_uid"),
    text("description"),
    text("path"),
    text("digest"),
    sa.Column("size", sa.BigInteger, nullable=False),
    text("quarantine", null=True),  # why the gate holds it back
    time("created_at"),
    text("kind", null=True),  # as node.results names it; null: made before kinds were kept
    text("analysis", null=True),  # key of the analysis; null: made before versions were counted, or a rejection note
    sa.Column("version", sa.Integer, nullable=True),  # from 2 on it takes the place of another result; null: 1
    text("replaces", null=True),  # when the result was made whose place it takes, see node.results.predecessor
    sa.Index("result_job", "job_id"),
    sa.Index("result_series", "series_instance_uid"),
    sa.Index("result_quarantined", "job_id", sqlite_where=_QUARANTINED, postgresql_where=_QUARANTINED),
)

replaced = sa.Table(  # a result that a destination holds and that another result has taken the place of
    "replaced",
    metadata,
    text("destination", key=True),
    text("sop_instance_uid", key=True),
    text("job_id"),  # that has replaced it
    text("path"),
    text("note_uid", null=True),  # SOP Instance UID of the rejection note that names it; "": given up; null: none yet
    sa.Index("replaced_note", "note_uid"),
)

original = sa.Table(  # an image that a job sends on as it was received; a corrected one belongs to two
    "original",
    metadata,
    text("job_id", key=True),
    text("sop_instance_uid", key=True),
    sa.Index("original_instance", "sop_instance_uid"),
)

"""Analyses that others have requested as workitems of a Unified Procedure Step."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import json, metadata, reason, text, time

_PENDING = sa.text("state = 'pending'")
_TO_CANCEL = sa.text("cancel_by IS NOT NULL")

_OPEN = sa.text("state NOT IN ('ended', 'lost')")

workitem = sa.Table(  # goes with the study
    "workitem",
    metadata,
    text("uid", key=True),  # SOP Instance UID of the Unified Procedure Step
    text("study_instance_uid"),
    text("series_instance_uid"),  # "": of the study the one series that suits
    text("procedure"),  # name of [procedures.NAME]
    text("requester"),  # client or peer that has created it
    text("state"),  # WorkitemState
    text("job_id", null=True),  # that performs it; null: none yet, or it was canceled before
    reason("reason", null=True),  # why it was canceled, or must end without its job
    json("request"),  # what the requester stated, see node.ledger.workitems
    text("cancel_by", null=True),  # who asks the router to cancel it; null: nobody
    time("requested_at"),
    time("updated_at"),
    sa.Index("workitem_study", "study_instance_uid"),
    sa.Index("workitem_job", "job_id"),
    sa.Index("workitem_time", "requested_at"),
    sa.Index("workitem_pending", "requested_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
    sa.Index("workitem_cancel", "requested_at", sqlite_where=_TO_CANCEL, postgresql_where=_TO_CANCEL),
)

claimed_workitem = sa.Table(  # of another system, performed by this node; goes with the study
    "claimed_workitem",
    metadata,
    text("uid", key=True),
    text("transaction_uid"),  # by which the other system knows that the claim is ours
    text("study_instance_uid"),
    text("series_instance_uid"),  # "": it names none
    text("patient_id"),  # "": it names none
    text("procedure"),  # name of [procedures.NAME]
    json("request"),  # as of workitem
    text("state"),  # ClaimState
    reason("reason", null=True),  # why it was refused or lost
    text("reported"),  # the progress that the other system knows
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    time("claimed_at"),
    time("due_at"),  # of the next attempt
    time("updated_at"),
    sa.Index("claimed_workitem_study", "study_instance_uid"),
    sa.Index("claimed_workitem_due", "due_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

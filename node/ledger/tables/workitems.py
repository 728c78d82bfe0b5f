"""Workitems of a Unified Procedure Step: what others have requested, what others offer, and who is told of changes."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import EscapedJson, json, metadata, number, reason, text, time

_PENDING = sa.text("state = 'pending'")
_TO_CANCEL = sa.text("cancel_by IS NOT NULL")

_OPEN = sa.text("state NOT IN ('ended', 'lost')")
_FOLLOWED = sa.text("subscribed AND reported_state NOT IN ('COMPLETED', 'CANCELED')")
_TO_TELL = sa.text("cancel IS NOT NULL")
_LOCKED = sa.text("locked")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


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

workitem_subscriber = sa.Table(  # an AE that is told of workitems (PS3.4 CC.2.3)
    "workitem_subscriber",
    metadata,
    text("title", key=True),  # Receiving AE (0074,1234)
    _flag("websocket"),  # its events go over a WebSocket, as it was last subscribed by UPS-RS
    _flag("every_locked"),  # its subscription to all workitems has a deletion lock
    _flag("matching_locked"),  # the same, the one to those that match its keys
    time("every_since", null=True),  # since when it is subscribed to all workitems; null: it is not
    time("matching_since", null=True),  # the same, to those that match its keys
    sa.Column(
        "keys", EscapedJson(none_as_null=True), nullable=True
    ),  # the matching keys, as DICOM JSON; null: none were given yet
    time("looked_at"),  # when the ledger was last searched for workitems that are new to it
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    time("due_at"),  # of the next attempt
    text("error"),  # of the last attempt; "": there is none
)

workitem_watch = sa.Table(  # what a subscriber knows of a workitem; goes with the study
    "workitem_watch",
    metadata,
    text("title", key=True),
    text("uid", key=True),  # SOP Instance UID of the workitem
    text("study_instance_uid"),
    text("job_id"),  # of a workitem of the rules; "": it was requested, workitem has its job
    sa.Column("subscribed", sa.Boolean, nullable=False),  # false: unsubscribed, or its keys do not match
    _flag("locked"),  # it keeps the workitem for longer (PS3.4 CC.2.3)
    text("reported_state"),  # Procedure Step State that the subscriber knows; "": none; "?" at its end: may be another
    text("reported_progress"),  # the progress that it knows
    number(
        "seen"
    ),  # sum of the times of the last changes of workitem, job and deliveries when it was looked at; below 0: not yet
    sa.Column("cancel", EscapedJson(none_as_null=True), nullable=True),  # requests for it that are not told yet
    sa.Column("failures", sa.Integer, nullable=False),  # reports that it refused, in a row
    time("due_at"),  # not before, after a refusal
    sa.Index("workitem_watch_study", "study_instance_uid"),
    sa.Index("workitem_watch_locked", "study_instance_uid", sqlite_where=_LOCKED, postgresql_where=_LOCKED),
    sa.Index("workitem_watch_job", "job_id"),
    sa.Index("workitem_watch_uid", "uid"),
    sa.Index("workitem_watch_followed", "title", "due_at", sqlite_where=_FOLLOWED, postgresql_where=_FOLLOWED),
    sa.Index("workitem_watch_cancel", "title", sqlite_where=_TO_TELL, postgresql_where=_TO_TELL),
)

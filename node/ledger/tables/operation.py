"""What operators see and do, and the processes of the node."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import EscapedText, json, metadata, number, serial, text, time

event = sa.Table(  # the timeline that `explain` and the dashboard show
    "event",
    metadata,
    serial("id"),
    time("at"),
    text("study_instance_uid"),
    text("series_instance_uid", null=True),
    text("job_id", null=True),
    text("kind"),  # of node.ledger.events.EventKind
    text("stage", null=True),
    sa.Column("attempt", sa.Integer, nullable=True),  # from 1
    number("seconds", null=True),  # that the attempt took
    text("destination", null=True),
    text("error_code", null=True),  # of node.errors
    json("parameters"),  # what else its sentence needs
    sa.Index("event_study", "study_instance_uid", "at"),
)

stopped = sa.Table(  # pipelines whose jobs wait because an operator wants it
    "stopped",
    metadata,
    text("pipeline", key=True),
    time("at"),
    text("who"),
)

pipeline_failure = sa.Table(  # jobs in a row that a pipeline failed on; no row: the last one succeeded
    "pipeline_failure",
    metadata,
    text("pipeline", key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    text("job_id"),  # the last of them
    time("since"),
    time("until", null=True),  # no attempt gets a turn before; null: they are not enough for that
)

alarm = sa.Table(  # an alert that was notified and is not over
    "alarm",
    metadata,
    text("channel", key=True),  # log, mail or webhook; for what one machine sees with its id
    text("problem", key=True),
    text("text"),
    time("at"),
)

session = sa.Table(  # a login to the dashboard; an ended one stays for a while, see node.web.sessions
    "session",
    metadata,
    text("token_hash", key=True),  # SHA-256 of the cookie
    text("user"),
    text("stamp"),  # of the user's password and role when it began
    time("began_at"),
    time("seen_at"),
    time("ended_at", null=True),
    sa.Index("session_began", "began_at"),
)

login_attempt = sa.Table(  # failed attempts in a row to log in with a name, and logins; no row: none
    "login_attempt",
    metadata,
    text("name", key=True),
    text("origin", key=True),  # an address, or a browser that was logged in with the name before; "": all others
    sa.Column("failures", sa.Integer, nullable=False),
    time("last_at"),
    time("succeeded_at", null=True),  # the last login from there; null: none
)

notice = sa.Table(  # for the audit trail, which takes the rows away
    "notice",
    metadata,
    serial("id"),
    time("at"),
    text("what"),
    text("who"),
    text("address"),
    sa.Column("detail", sa.Text, nullable=False),  # also a query as JSON; the audit message escapes what it shows
)

member = sa.Table(  # heartbeat of every process of every machine
    "member",
    metadata,
    text("id", key=True),
    text("role"),
    text("machine"),  # id of the storage folder
    text("host"),  # the space in which the pid counts
    sa.Column("pid", sa.Integer, nullable=False),
    text("version"),
    text("revision"),  # of the tables
    json("pipelines"),  # that a worker can run
    json("devices"),
    text("state"),  # of node.ledger.states.MemberState
    time("beat_at"),  # by the ledger's clock
    sa.Column("files_url", EscapedText, nullable=False, server_default=sa.text("''")),  # of its file service; "": none
    sa.Column("copies_address", EscapedText, nullable=False, server_default=sa.text("''")),  # host:port; "": none
    time("began_at", null=True),
    json("configuration", null=True),  # digest of each shared table; null: of an older version
    sa.Column("min_free_gib", sa.Double),  # [storage] min_free_gib; null: of an older version
    sa.Column("clock_offset_seconds", sa.Double),  # its clock is ahead of the ledger's; null, also below: not known
    sa.Column("clock_error_seconds", sa.Double),  # the offset may be this much more or less
    sa.Column("free_bytes", sa.BigInteger),  # of the file system of the storage folder
    sa.Column("total_bytes", sa.BigInteger),
    json("held", null=True),  # of a receiver: associations and requests by limit that counts in the fleet
)

published_rules = sa.Table(  # the configuration that all machines of this ledger share; each row is a version
    "published_rules",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    time("at"),
    text("who"),
    text("why"),
    sa.Column("text", sa.Text, nullable=False),  # rules and destinations as in the file, its ends of lines too
    sa.Column("settings", sa.Text, nullable=True),  # other shared values, as TOML; null: those of the version before
)

taken_rules = sa.Table(  # of them, what each configuration file has
    "taken_rules",
    metadata,
    text("file", key=True),  # name of the host and path
    sa.Column("number", sa.Integer, nullable=False),
    time("at"),
    sa.Column("settings_number", sa.Integer, nullable=True),  # of the version with the settings that it has; null: none
    json("differences", null=True),  # shared keys that are not as published: here, published
    text("fault", null=True),  # why the newest version cannot be taken over
    time("reported_at", null=True),  # both; null: by an older version, which does not
)

holding = sa.Table(  # machines without a shared folder: which of them has files in a folder
    "holding",
    metadata,
    text("folder", key=True),  # of a series, of the results of a job or of its handover, relative to the storage folder
    text("machine", key=True),  # as in member
    sa.Column("purged", sa.Boolean, nullable=False),  # the machine is still to delete what it has there
)

missing_copy = sa.Table(  # files that are, or may be, on fewer machines than [storage] copies says
    "missing_copy",
    metadata,
    text("path", key=True),  # relative to the storage folder
    time("missing_at"),
)

drained = sa.Table(  # machines whose processes begin nothing, because an operator wants it
    "drained",
    metadata,
    text("machine", key=True),  # as in member
    text("host_name", key=True),
    time("at"),
)

secret = sa.Table(  # one row, "salt": what makes UIDs of results unpredictable; see node.inference.node_secret
    "secret",
    metadata,
    text("name", key=True),
    text("value"),
    time("made_at"),
)

"""Studies that are fetched from an archive one after another, as time allows; and which ones were."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import json, metadata, serial, text, time

_WAITING = sa.text("state = 'waiting'")

fetch_list = sa.Table(
    "fetch_list",
    metadata,
    serial("id"),
    text("destination"),  # name of the [destinations.NAME] that has the studies
    json("modalities"),  # empty: those that a rule matches
    text("requester"),  # user of the dashboard, or of the command line
    time("requested_at"),
)

fetch_item = sa.Table(  # what is asked for in one query: a study, or several until the archive has named them
    "fetch_item",
    metadata,
    serial("id"),
    sa.Column("list_id", sa.BigInteger, nullable=False),
    text("keyword"),  # of the attribute that is matched, such as AccessionNumber
    text("value"),
    text("state"),  # FetchState
    sa.Column("here", sa.Integer, nullable=False),  # images of the wanted series that are here
    sa.Column("there", sa.Integer, nullable=False),  # that the archive has of them
    text("error"),  # of the last attempt; "": there was none
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    time("due_at"),  # of the next attempt
    time("updated_at"),
    sa.UniqueConstraint("list_id", "keyword", "value", name="fetch_item_key"),
    sa.Index("fetch_item_waiting", "id", sqlite_where=_WAITING, postgresql_where=_WAITING),
)

fetched_study = sa.Table(  # its analyses go after all others; goes with the study
    "fetched_study",
    metadata,
    text("study_instance_uid", key=True),
    time("fetched_at"),
)

"""Embeddings of lesions, by which similar findings are found; they go with their study or its results."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.columns import json, metadata, number, serial, text, time

embedding_space = sa.Table(  # what the embeddings of one pipeline are of
    "embedding_space",
    metadata,
    text("pipeline", key=True),  # as it was configured
    text("name", key=True),
    sa.Column("dimensions", sa.Integer, nullable=False),
    json("statement"),  # sentence of the pipeline on how well it works: [English, {language: text}]
    time("rebuilt_at"),  # the index of an earlier time is built again
)

lesion_embedding = sa.Table(
    "lesion_embedding",
    metadata,
    serial("id"),
    text("study_instance_uid"),
    text("job_id"),
    text("lesion"),  # Tracking UID
    text("label"),
    text("pipeline"),
    text("space"),
    sa.Column("vector", sa.LargeBinary, nullable=False),  # float32, little endian, of length 1
    number("long_axis_mm", null=True),  # null: the report has none
    text("patient"),  # keyed hash of the ID; "": the images have none
    text("study_date"),  # YYYYMMDD; "": the images have none
    time("made_at"),
    sa.Index("lesion_embedding_space", "pipeline", "space", "id"),
    sa.Index("lesion_embedding_study", "study_instance_uid"),
    sa.Index("lesion_embedding_job", "job_id"),
    sa.Index("lesion_embedding_lesion", "lesion"),
    sqlite_autoincrement=True,  # no id is used twice: an index in memory knows rows by it
)

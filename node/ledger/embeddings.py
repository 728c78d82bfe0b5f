"""Embeddings of lesions: their rows, and which of them may be shown as similar findings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import among, insert_new
from node.ledger.jobs import REJECTION, Job
from node.ledger.states import SeriesState
from node.ledger.tables import embedding_space, job, lesion_embedding, result, series, verdict
from node.ledger.verdict import SourceKind
from node.outcome import ANALYSED


class SpaceKey(NamedTuple):
    """Embeddings are compared within one of these."""

    pipeline: str
    name: str


@dataclass(frozen=True, kw_only=True)
class NewSpace:
    """What a pipeline says of its embeddings."""

    name: str
    dimensions: int
    statement: tuple[str, dict[str, str]]
    """English, and translations by language."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What the embeddings of one pipeline are of."""

    key: SpaceKey
    dimensions: int
    statement: tuple[str, dict[str, str]]
    """English, and translations by language."""
    rebuilt_at: float


@dataclass(frozen=True, kw_only=True)
class LesionEmbedding:
    """The embedding of one lesion of a job."""

    lesion: str
    """Tracking UID."""
    label: str
    vector: bytes
    """float32, little endian, of length 1."""
    long_axis_mm: float | None
    patient: str = ""
    """Keyed hash of the patient's ID; empty: the images have none."""
    study_date: str = ""
    """YYYYMMDD; empty: the images have none."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedFinding:
    """A finding with an embedding, and where it is."""

    id: int
    study_instance_uid: str
    job_id: str
    lesion: str
    label: str
    long_axis_mm: float | None
    patient: str
    study_date: str
    made_at: float

    @property
    def seen_at(self) -> float:
        """Noon of the day of its study, local time; that of the analysis when the images do not say."""
        try:
            day = datetime.strptime(self.study_date, "%Y%m%d").astimezone()
        except ValueError:
            return self.made_at
        return day.replace(hour=12).timestamp()


_PORTION = 10_000
"""Ids in one statement: SQLite takes 32,766 at most."""
_COLUMNS = tuple(lesion_embedding.c[name] for name in EmbeddedFinding.__dataclass_fields__)


def record_embeddings(
    connection: sa.Connection, of: Job, space: NewSpace, embeddings: Sequence[LesionEmbedding]
) -> None:
    """Replace the embeddings of a job."""
    job_id, key = of.id, SpaceKey(of.pipeline, space.name)
    at = ledger_clock(connection)
    delete_embeddings(connection, job_id)
    if not embeddings:
        return
    values = {"dimensions": space.dimensions, "statement": list(space.statement)}
    if not insert_new(
        connection, embedding_space, [{"pipeline": key.pipeline, "name": key.name, **values, "rebuilt_at": at}]
    ):
        connection.execute(sa.update(embedding_space).where(*_is(key)).values(**values))
        fits = sa.func.length(lesion_embedding.c.vector) == len(embeddings[0].vector)
        connection.execute(sa.delete(lesion_embedding).where(*_in(key), ~fits))
    common = {
        "study_instance_uid": of.study_instance_uid,
        "job_id": job_id,
        "pipeline": key.pipeline,
        "space": key.name,
        "made_at": at,
    }
    connection.execute(sa.insert(lesion_embedding), [{**common, **vars(embedding)} for embedding in embeddings])


def delete_embeddings(connection: sa.Connection, job_id: str) -> None:
    """Delete the embeddings of a job."""
    connection.execute(sa.delete(lesion_embedding).where(lesion_embedding.c.job_id == job_id))


def spaces(connection: sa.Connection) -> list[Space]:
    """All spaces, by pipeline."""
    query = sa.select(embedding_space).order_by(embedding_space.c.pipeline, embedding_space.c.name)
    return [
        Space(
            key=SpaceKey(row.pipeline, row.name),
            dimensions=row.dimensions,
            statement=(row.statement[0], row.statement[1]),
            rebuilt_at=row.rebuilt_at,
        )
        for row in connection.execute(query)
    ]


def vectors_after(connection: sa.Connection, key: SpaceKey, last: int) -> list[tuple[int, bytes]]:
    """Vectors of a space with an id above ``last``, by id."""
    query = sa.select(lesion_embedding.c.id, lesion_embedding.c.vector).where(*_in(key), lesion_embedding.c.id > last)
    return [(row.id, row.vector) for row in connection.execute(query.order_by(lesion_embedding.c.id))]


def vectors_of(connection: sa.Connection, ids: Collection[int]) -> list[tuple[int, bytes]]:
    """Vectors by id, of those of ``ids`` that are there."""
    vector = sa.select(lesion_embedding.c.id, lesion_embedding.c.vector)
    wanted = sorted(ids)
    portions = (wanted[start : start + _PORTION] for start in range(0, len(wanted), _PORTION))
    queries = (vector.where(lesion_embedding.c.id.in_(portion)) for portion in portions)
    return [(row.id, row.vector) for query in queries for row in connection.execute(query)]


def embedding_count(connection: sa.Connection, key: SpaceKey) -> int:
    """Number of embeddings of a space."""
    return connection.scalar(sa.select(sa.func.count()).select_from(lesion_embedding).where(*_in(key))) or 0


def embedding_ids(connection: sa.Connection, key: SpaceKey) -> set[int]:
    """Ids of all embeddings of a space."""
    return set(connection.scalars(sa.select(lesion_embedding.c.id).where(*_in(key))))


def embeddings_of_job(connection: sa.Connection, job_id: str) -> list[tuple[EmbeddedFinding, SpaceKey, bytes]]:
    """Embeddings of a job with their vectors."""
    query = sa.select(*_COLUMNS, *lesion_embedding.c["pipeline", "space", "vector"])
    rows = connection.execute(query.where(lesion_embedding.c.job_id == job_id).order_by(lesion_embedding.c.id))
    return [(_finding(row), SpaceKey(row.pipeline, row.space), row.vector) for row in rows]


def showable(
    connection: sa.Connection, ids: Collection[int], *, not_of: str, before: float
) -> dict[int, EmbeddedFinding]:
    """Those of ``ids`` that may be shown on the page of the study ``not_of``, by id.

    Older than ``before``, of another study, of the newest generation of a complete series, not in shadow, not purged,
    and neither retracted by an operator nor rejected by a rejection note.
    """
    other, note = result.alias(), verdict.alias()
    query = (
        sa.select(*_COLUMNS)
        .join(job, job.c.id == lesion_embedding.c.job_id)
        .join(
            series,
            sa.and_(
                series.c.study_instance_uid == job.c.study_instance_uid,
                series.c.series_instance_uid == job.c.series_instance_uid,
            ),
        )
        .where(
            lesion_embedding.c.id.in_(ids),
            lesion_embedding.c.study_instance_uid != not_of,
            lesion_embedding.c.made_at < before,
            job.c.shadow.is_(None),
            job.c.outcome.in_(tuple(ANALYSED)),
            job.c.results_purged_at.is_(None),
            series.c.state == SeriesState.COMPLETE,  # else it is being corrected, or about to be replaced
            job.c.generation == series.c.generation,
            sa.exists().where(other.c.job_id == job.c.id, other.c.quarantine.is_(None)),
            ~sa.exists().where(result.c.job_id == job.c.id, result.c.kind == REJECTION),
            ~sa.exists().where(
                note.c.job_id == job.c.id,
                note.c.lesion.in_((lesion_embedding.c.lesion, "")),
                note.c.kind == SourceKind.REJECTION_NOTE,
                note.c.superseded_at.is_(None),
            ),
        )
    )
    return {row.id: _finding(row) for row in connection.execute(query)}


def same_lesions(connection: sa.Connection, lesions: Collection[str]) -> dict[str, list[EmbeddedFinding]]:
    """Every finding that has one of these Tracking UIDs, the oldest first, by Tracking UID."""
    query = sa.select(*_COLUMNS).where(among(connection, lesion_embedding.c.lesion, lesions))
    findings: dict[str, list[EmbeddedFinding]] = {}
    for row in connection.execute(query.order_by(lesion_embedding.c.made_at, lesion_embedding.c.id)):
        findings.setdefault(row.lesion, []).append(_finding(row))
    return findings


def rebuild(connection: sa.Connection, pipelines: Collection[str]) -> tuple[int, int]:
    """Delete embeddings whose job is gone or whose pipeline is not among ``pipelines``; have every index built again.

    Returns the numbers of embeddings that were deleted and that remain.
    """
    is_orphan = ~sa.exists().where(job.c.id == lesion_embedding.c.job_id, job.c.results_purged_at.is_(None))
    unwanted = sa.or_(is_orphan, lesion_embedding.c.pipeline.not_in(tuple(pipelines)))
    deleted = connection.execute(sa.delete(lesion_embedding).where(unwanted)).rowcount
    unused = ~sa.exists().where(
        lesion_embedding.c.pipeline == embedding_space.c.pipeline, lesion_embedding.c.space == embedding_space.c.name
    )
    connection.execute(sa.delete(embedding_space).where(unused))
    connection.execute(sa.update(embedding_space).values(rebuilt_at=ledger_clock(connection)))
    return deleted, connection.scalar(sa.select(sa.func.count()).select_from(lesion_embedding)) or 0


def _finding(row: Any) -> EmbeddedFinding:
    return EmbeddedFinding(**{name: getattr(row, name) for name in EmbeddedFinding.__dataclass_fields__})


def _is(key: SpaceKey) -> tuple[sa.ColumnElement[bool], ...]:
    return embedding_space.c.pipeline == key.pipeline, embedding_space.c.name == key.name


def _in(key: SpaceKey) -> tuple[sa.ColumnElement[bool], ...]:
    return lesion_embedding.c.pipeline == key.pipeline, lesion_embedding.c.space == key.name

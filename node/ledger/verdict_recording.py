"""Verdicts of readers on the lesions that this node reported: what they say, and which of them counts.

A lesion counts once, with the verdict that was received last: earlier ones stay as rows that are superseded. An object
that shows all lesions of an analysis as a reader wants them supersedes every verdict of objects before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_event, record_study_event
from node.ledger.jobs import REJECTION
from node.ledger.states import SeriesState
from node.ledger.tables import instance, job, reader_object, result, series, verdict
from node.ledger.verdict import LesionVerdict, SourceKind, Verdict
from node.reasons import Reason


@dataclass(frozen=True, kw_only=True)
class ReaderObject:
    """A received object that may hold verdicts."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    path: str
    """Relative to ``[storage] folder``."""
    received_at: float


class ResultObject(NamedTuple):
    """An object of an analysis."""

    sop_instance_uid: str
    sop_class_uid: str
    path: str


@dataclass(frozen=True, kw_only=True)
class AnalysisOfStudy:
    """A job whose objects a reader may have seen."""

    job_id: str
    pipeline: str
    series_instance_uid: str
    """Of the images."""
    objects: tuple[ResultObject, ...]
    """Those of the kind that is sent by default first: "seg" before "labelmap"."""


def unread_objects(
    connection: sa.Connection, classes: Sequence[str], modalities: Sequence[str], since: float
) -> list[ReaderObject]:
    """Objects of these SOP classes that nobody has looked at, in series that got an image since; the oldest first.

    Without this node's own results, and without studies in which it has none.
    """
    is_read = sa.exists().where(reader_object.c.sop_instance_uid == instance.c.sop_instance_uid)
    is_own = sa.exists().where(result.c.sop_instance_uid == instance.c.sop_instance_uid)
    has_results = sa.exists().where(
        job.c.study_instance_uid == instance.c.study_instance_uid, result.c.job_id == job.c.id
    )
    query = (
        sa.select(*(instance.c[name] for name in ReaderObject.__dataclass_fields__))
        .join(
            series,
            sa.and_(
                series.c.study_instance_uid == instance.c.study_instance_uid,
                series.c.series_instance_uid == instance.c.series_instance_uid,
            ),
        )
        .where(
            series.c.state.in_(tuple(SeriesState)),  # with last_at, as the index has them
            series.c.last_at >= since,
            series.c.modality.in_(modalities),
            instance.c.sop_class_uid.in_(classes),
            ~is_read,
            ~is_own,
            has_results,
        )
        .order_by(instance.c.received_at)
    )
    return [ReaderObject(**row) for row in connection.execute(query).mappings()]


def analyses_before(connection: sa.Connection, study: str, at: float) -> list[AnalysisOfStudy]:
    """Analyses of a study with the objects that they had made before ``at``, the latest first."""
    objects = (result.c[name] for name in ResultObject._fields)
    query = (
        sa.select(job.c.id, job.c.pipeline, job.c.series_instance_uid, *objects)
        .join(result, result.c.job_id == job.c.id)
        .where(
            job.c.study_instance_uid == study,
            job.c.shadow.is_(None),  # else no reader of the archive has seen it
            result.c.created_at <= at,
            result.c.quarantine.is_(None),
            sa.func.coalesce(result.c.kind, "").not_like(f"{REJECTION}%"),
        )
        .order_by(job.c.created_at.desc(), job.c.id, result.c.kind.desc())
    )
    analyses: dict[str, AnalysisOfStudy] = {}
    for job_id, pipeline, series_uid, *of_object in connection.execute(query):
        analysis = analyses.setdefault(
            job_id, AnalysisOfStudy(job_id=job_id, pipeline=pipeline, series_instance_uid=series_uid, objects=())
        )
        analyses[job_id] = replace(analysis, objects=(*analysis.objects, ResultObject(*of_object)))
    return list(analyses.values())


def record_no_verdict(connection: sa.Connection, of: ReaderObject, why: Reason) -> None:
    """Record that an object holds no verdict, and why; nothing when it was read before."""
    if not _record_read(connection, of, 0, why):
        return
    record_study_event(
        connection,
        EventKind.NO_VERDICT,
        at=ledger_clock(connection),
        study_instance_uid=of.study_instance_uid,
        series_instance_uid=of.series_instance_uid,
        sop_instance_uid=of.sop_instance_uid,
        reason=why,
    )


def record_verdicts(
    connection: sa.Connection,
    of: ReaderObject,
    verdicts: Sequence[LesionVerdict],
    *,
    kind: SourceKind,
    reader: str,
    content_time: str,
    is_whole: bool,
) -> None:
    """Record what a reader's object says; nothing when it was read before.

    ``reader``: keyed hash, ``""`` when the object names nobody. ``is_whole``: it shows all lesions of its analyses, so
    that nothing that was said of them before counts. Another one counts only where no segmentation does, which says
    more and may show the same added lesion under another name.
    """
    if not _record_read(connection, of, len(verdicts), None):
        return
    for job_id in sorted({lesion_verdict.job_id for lesion_verdict in verdicts}):
        own = [lesion_verdict for lesion_verdict in verdicts if lesion_verdict.job_id == job_id]
        counts = is_whole or not _has_segmentation(connection, job_id)
        if counts:
            _supersede(
                connection,
                job_id,
                None if is_whole else {lesion_verdict.lesion for lesion_verdict in own},
                of.received_at,
            )
        rows = [
            asdict(lesion_verdict)
            | {
                "source": of.sop_instance_uid,
                "kind": kind,
                "reader": reader,
                "given_at": of.received_at,
                "content_time": content_time or None,
                "superseded_at": None if counts else of.received_at,
            }
            for lesion_verdict in own
        ]
        connection.execute(sa.insert(verdict), rows)
        record_event(connection, job_id, EventKind.VERDICTS, source=kind, verdicts=counted(own))


def counted(verdicts: Sequence[LesionVerdict]) -> dict[str, int]:
    """How many lesions have each verdict, in the order of ``Verdict``; without those that none has."""
    numbers = {verdict.value: sum(entry.verdict == verdict for entry in verdicts) for verdict in Verdict}
    return {name: number for name, number in numbers.items() if number}


def _record_read(connection: sa.Connection, of: ReaderObject, verdicts: int, why: Reason | None) -> bool:
    row = {
        "sop_instance_uid": of.sop_instance_uid,
        "study_instance_uid": of.study_instance_uid,
        "verdicts": verdicts,
        "reason": why,
        "read_at": ledger_clock(connection),
    }
    return bool(insert_new(connection, reader_object, [row]))


def _has_segmentation(connection: sa.Connection, job_id: str) -> bool:
    """Whether a verdict that counts was read in a segmentation."""
    current = verdict.c.job_id == job_id, verdict.c.superseded_at.is_(None), verdict.c.kind == SourceKind.SEGMENTATION
    return connection.scalar(sa.select(sa.exists().where(*current))) is True


def _supersede(connection: sa.Connection, job_id: str, lesions: set[str] | None, at: float) -> None:
    """Let no earlier verdict on these lesions of an analysis count; ``None``: on any."""
    earlier = [verdict.c.job_id == job_id, verdict.c.superseded_at.is_(None)]
    earlier += [] if lesions is None else [verdict.c.lesion.in_(lesions)]
    connection.execute(sa.update(verdict).where(*earlier).values(superseded_at=at))

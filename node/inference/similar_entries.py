"""Similar earlier findings for the PDF report: what the ledger knows of them when the analysis is encoded."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from node.inference.encode_task import EncodedEmbeddings
from node.ledger.clock import ledger_clock
from node.ledger.embeddings import SpaceKey
from node.ledger.jobs import Job
from node.results.similar_text import SimilarEntries, SimilarEntry
from node.similar.findings import SearchedLesion, SimilarFinding, SimilarSearch


def similar_entries(
    connection: sa.Connection, search: SimilarSearch, job: Job, encoded: EncodedEmbeddings
) -> SimilarEntries | None:
    """Return what is similar to the lesions of a job; ``None``: nothing is."""
    lesions = [
        SearchedLesion(
            name=embedding.label, lesion=embedding.lesion, patient=embedding.patient, vector=embedding.vector
        )
        for embedding in encoded.lesions
    ]
    similar = search.of_lesions(
        connection,
        SpaceKey(job.pipeline, encoded.space),
        lesions,
        not_of=job.study_instance_uid,
        before=ledger_clock(connection),
    )
    by_label = {name: tuple(map(_entry, of_lesion)) for name, of_lesion in similar.items() if of_lesion}
    return SimilarEntries(by_label=by_label, statement=encoded.statement) if by_label else None


def _entry(similar: SimilarFinding) -> SimilarEntry:
    return SimilarEntry(
        long_axis_mm=similar.finding.long_axis_mm,
        seen_on=_day(similar.finding.seen_at),
        verdict=similar.verdict.verdict if similar.verdict else "",
        later=tuple((_day(later.seen_at), later.long_axis_mm) for later in similar.follow_up),
    )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().date().isoformat()

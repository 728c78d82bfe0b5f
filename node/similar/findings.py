"""Similar findings of the lesions of a job, with what is known of them since."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.clicked_verdicts import CurrentVerdict, current_verdicts
from node.ledger.embeddings import EmbeddedFinding, SpaceKey, embeddings_of_job, same_lesions, showable, spaces
from node.similar.index import SpaceIndex

SHOWN = 5
_FIRST = 8 * SHOWN
"""Neighbours that are looked up first: most may be shown."""
_MOST = 64 * _FIRST
"""Neighbours that are looked up when hardly any may be shown."""


_LEAST_SIMILARITY = 0.5
"""Cosine: what is farther away is not like the finding, however few there are."""
_MOST_LESIONS = 50
"""Of one analysis, for which similar ones are searched."""


@dataclass(frozen=True, kw_only=True)
class SimilarFinding:
    """An earlier finding of this site that looks like another one."""

    finding: EmbeddedFinding
    similarity: float
    """Cosine of the angle between the embeddings, at most 1."""
    verdict: CurrentVerdict | None
    """That counts, of a reader."""
    follow_up: tuple[EmbeddedFinding, ...]
    """The same lesion in later studies of its patient, the oldest first."""


@dataclass(frozen=True, kw_only=True)
class SearchedLesion:
    """A lesion of which similar findings are searched."""

    name: str
    """In the answer."""
    lesion: str
    """Tracking UID; empty: it has none yet."""
    patient: str
    """Keyed hash; empty: not known."""
    vector: bytes


@dataclass(frozen=True, kw_only=True)
class SimilarFindings:
    """Similar findings of one job."""

    by_lesion: Mapping[str, tuple[SimilarFinding, ...]]
    """The most similar first, by Tracking UID of the lesion."""
    statement: tuple[str, dict[str, str]]
    """What the pipeline says of their precision: English, and translations by language."""

    def statement_in(self, language: str) -> str:
        """Return the statement in a language, or in English."""
        return self.statement[1].get(language, self.statement[0])


class SimilarSearch:
    """Finds similar findings; one index for each space, shared by all threads."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._indexes: dict[SpaceKey, SpaceIndex] = {}

    def of_job(self, connection: sa.Connection, job_id: str) -> SimilarFindings | None:
        """Return what is similar to each lesion of a job; ``None``: its lesions have no embedding.

        Only findings of other studies that were made before are compared, within the same pipeline and space.
        """
        own = embeddings_of_job(connection, job_id)
        present = {space.key: space for space in spaces(connection)}
        if not own or own[0][1] not in present:
            return None
        first, key, _ = own[0]
        lesions = [
            SearchedLesion(name=finding.lesion, lesion=finding.lesion, patient=finding.patient, vector=vector)
            for finding, of_space, vector in own
            if of_space == key
        ]
        return SimilarFindings(
            by_lesion=self.of_lesions(connection, key, lesions, not_of=first.study_instance_uid, before=first.made_at),
            statement=present[key].statement,
        )

    def of_lesions(
        self, connection: sa.Connection, key: SpaceKey, lesions: Sequence[SearchedLesion], *, not_of: str, before: float
    ) -> dict[str, tuple[SimilarFinding, ...]]:
        """Return what is similar to lesions of the study ``not_of`` and was made before a time, by their names."""
        with self._turn:
            index = self._index(connection, key)
            near = {
                lesion.name: _showable(connection, index, lesion, not_of=not_of, before=before) if index else []
                for lesion in lesions[:_MOST_LESIONS]
            }
        findings = [finding for of_lesion in near.values() for finding, _ in of_lesion]
        verdicts = current_verdicts(connection, {finding.job_id for finding in findings})
        later = _later(connection, findings)
        return {
            name: tuple(
                SimilarFinding(
                    finding=finding,
                    similarity=similarity,
                    verdict=verdicts.get(finding.job_id, {}).get(finding.lesion),
                    follow_up=later[finding.id],
                )
                for finding, similarity in of_lesion
            )
            for name, of_lesion in near.items()
        }

    def _index(self, connection: sa.Connection, key: SpaceKey) -> SpaceIndex | None:
        """Return the index of a space in step with the ledger; indexes of spaces that are gone are dropped."""
        present = {space.key: space for space in spaces(connection)}
        self._indexes = {space_key: index for space_key, index in self._indexes.items() if space_key in present}
        space = present.get(key)
        if space is None:
            return None
        index = self._indexes.get(key)
        if index is None or index.space.rebuilt_at != space.rebuilt_at or index.space.dimensions != space.dimensions:
            index = self._indexes[key] = SpaceIndex(space)
        index.space = space
        index.update(connection)
        return index


def _showable(
    connection: sa.Connection, index: SpaceIndex, of: SearchedLesion, *, not_of: str, before: float
) -> list[tuple[EmbeddedFinding, float]]:
    """The nearest findings of other patients that may be shown, each lesion once."""
    count = min(_FIRST, len(index))
    while True:
        every = index.nearest(of.vector, count)
        near = [(key, similarity) for key, similarity in every if similarity >= _LEAST_SIMILARITY]
        allowed = showable(connection, [key for key, _ in near], not_of=not_of, before=before)
        chosen: dict[str, tuple[EmbeddedFinding, float]] = {}
        for key, similarity in near:
            finding = allowed.get(key)
            if finding is None or finding.lesion == of.lesion:
                continue
            if not finding.patient or finding.patient != of.patient:
                chosen.setdefault(finding.lesion, (finding, similarity))
        if len(chosen) >= SHOWN or len(near) < len(every) or count >= min(len(index), _MOST):
            return list(chosen.values())[:SHOWN]
        count = min(4 * count, len(index), _MOST)


def _later(connection: sa.Connection, findings: list[EmbeddedFinding]) -> dict[int, tuple[EmbeddedFinding, ...]]:
    """The same lesion as each of ``findings`` in later studies, as far as it may be shown."""
    same = same_lesions(connection, {finding.lesion for finding in findings})
    ids = [finding.id for lesions in same.values() for finding in lesions]
    allowed = showable(connection, ids, not_of="", before=math.inf) if ids else {}
    return {
        finding.id: tuple(
            other
            for other in same[finding.lesion]
            if other.id in allowed
            and other.study_instance_uid != finding.study_instance_uid
            and other.seen_at > finding.seen_at
        )
        for finding in findings
    }

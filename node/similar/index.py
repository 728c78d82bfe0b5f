"""The index of one space of embeddings: in memory only, made of the rows of the ledger and kept in step with them.

Nothing of it is written to a file, so what retention deletes from the ledger is nowhere else. HNSW of usearch (Malkov
and Yashunin, IEEE TPAMI 2020) finds neighbours by the angle between vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from node.ledger.embeddings import Space, embedding_count, embedding_ids, vectors_after, vectors_of

if TYPE_CHECKING:  # a native library: loaded when there is something to search
    from usearch.index import Index

_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 32, 64
"""Of 100,000 vectors of 32 numbers, the five nearest are found at 99 %; see docs/development/benchmarks.md."""


class SpaceIndex:
    """Vectors of one space by the id of their row. One thread at a time."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._index = _empty(space.dimensions)
        self._last = 0

    def update(self, connection: sa.Connection) -> None:
        """Add rows that are new, and remove those that are gone."""
        new = vectors_after(connection, self.space.key, self._last)
        self._add(new)
        self._last = new[-1][0] if new else self._last
        if len(self._index) != embedding_count(connection, self.space.key):
            here, recorded = {int(key) for key in self._index.keys}, embedding_ids(connection, self.space.key)
            if here - recorded:
                self._compact(here & recorded)
            self._add(vectors_of(connection, recorded - here))  # committed after rows with larger ids

    def nearest(self, vector: bytes, count: int) -> list[tuple[int, float]]:
        """Ids of the ``count`` nearest rows with the cosine of the angle, the nearest first."""
        if not len(self._index) or len(vector) != np.dtype(np.float32).itemsize * self.space.dimensions:
            return []
        matches = self._index.search(np.frombuffer(vector, np.float32), count)
        keys, distances = matches.keys, matches.distances
        return [(int(key), 1.0 - float(distance)) for key, distance in zip(keys, distances, strict=True)]

    def __len__(self) -> int:
        return len(self._index)

    def _add(self, rows: Sequence[tuple[int, bytes]]) -> None:
        if rows:
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), np.float32)
            self._index.add(np.array([key for key, _ in rows], np.uint64), vectors.reshape(len(rows), -1))

    def _compact(self, kept: Collection[int]) -> None:
        """Build the index of some of its rows alone: a vector that is only removed stays in its memory."""
        before, self._index = self._index, _empty(self.space.dimensions)
        if kept:
            keys = np.array(sorted(kept), np.uint64)
            self._index.add(keys, np.asarray(before.get(keys), np.float32))


def _empty(dimensions: int) -> Index:
    from usearch.index import Index

    return Index(
        ndim=dimensions,
        metric="cos",
        dtype="f16",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )

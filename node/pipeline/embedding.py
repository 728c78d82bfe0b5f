"""Embeddings of lesions: vectors by which the node finds earlier findings that look alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from node.translation import Sentence

MOST_DIMENSIONS = 1024
_NAME = re.compile(r"[!-~]{1,64}")
_MOST_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpace:
    """What the embeddings of one pipeline are of: vectors of two spaces are never compared."""

    name: str
    """Of the network and of its weights, for example ``"nodule-1-3f2a9c"``: 1 to 64 visible ASCII characters. Change it
    whenever the same lesion would get another vector."""
    dimensions: int
    """Numbers in a vector, 2 to 1024. Lesions that look alike have a small angle between their vectors."""
    statement: str
    """How well it works, for the readers of the list: one sentence with a measured figure, at most 400 characters."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"EmbeddingSpace.name {self.name!r}: use 1 to 64 visible ASCII characters")
        if not 2 <= self.dimensions <= MOST_DIMENSIONS:
            raise ValueError(f"EmbeddingSpace.dimensions is {self.dimensions}; use 2 to {MOST_DIMENSIONS}")
        translated = self.statement.translations.values() if isinstance(self.statement, Sentence) else ()
        if not all(0 < len(text) <= _MOST_CHARACTERS for text in (str(self.statement), *translated)):
            raise ValueError(f"EmbeddingSpace.statement: give 1 to {_MOST_CHARACTERS} characters")


def checked_embedding(label: str, values: Iterable[float]) -> tuple[float, ...]:
    """Return a vector as floats. Raises ``ValueError`` for one that has no direction."""
    vector = tuple(map(float, values))
    length = math.hypot(*vector)
    if vector and not (math.isfinite(length) and length > 0):
        raise ValueError(f"Lesion.embedding of {label!r} has no direction; give finite numbers that are not all 0")
    return vector


def check_embeddings(space: EmbeddingSpace | None, embeddings: Iterable[tuple[str, tuple[float, ...]]]) -> None:
    """Raise ``ValueError`` unless every vector (by label, empty: none) is one of ``space``."""
    for label, vector in embeddings:
        if vector and space is None:
            raise ValueError(f"Lesion {label!r} has an embedding; say of which space in Findings.embedding_space")
        if vector and space is not None and len(vector) != space.dimensions:
            raise ValueError(
                f"Lesion.embedding of {label!r} has {len(vector)} numbers; {space.name} has {space.dimensions}"
            )

"""Limits of a received data set, so that a small message cannot cost much: elements, header and inflated bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from node.config import Storage


@dataclass(frozen=True, kw_only=True)
class DatasetLimits:
    """What one data set may hold."""

    elements: float = inf
    """Elements, items and fragments of pixel data."""
    header_bytes: float = inf
    """Bytes outside the pixel data, after inflation."""
    inflated_bytes: float = inf
    """Bytes of a deflated data set after inflation."""

    @classmethod
    def of(cls, storage: Storage) -> DatasetLimits:
        """Take the limits from a configuration."""
        return cls(
            elements=storage.max_elements,
            header_bytes=storage.max_header_mib * 2**20,
            inflated_bytes=storage.max_inflated_mib * 2**20,
        )

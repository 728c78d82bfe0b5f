"""Minimal series: the UIDs that a failure report needs, without reading any file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import VolumeGeometry
from pydicom import Dataset

from node.errors import InputError
from node.pipeline import Unsuitable
from node.translation import sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class MinimalSeries:
    """Replaces a ``SourceSeries`` whose files may be unreadable."""

    paths: tuple[Path, ...]
    """The file of each of ``datasets``."""
    datasets: tuple[Dataset, ...]
    """As ``minimal_header`` makes them."""

    @property
    def modality(self) -> str:
        """Modality (0008,0060), ``""`` when unknown."""
        return str(self.datasets[0].get("Modality") or "")

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID (0020,000E)."""
        return str(self.datasets[0].SeriesInstanceUID)

    @property
    def geometry(self) -> VolumeGeometry:
        """Raises ``Unsuitable``: there is none."""
        raise Unsuitable(sentence("the images were not read"))

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """None."""
        return ()

    @property
    def slices(self) -> tuple[int, ...]:
        """None."""
        return ()

    @property
    def left_out(self) -> str:
        """Nothing: the report is of a failure."""
        return ""

    def image(self, index: int) -> np.ndarray[Any, Any]:
        """Raises ``InputError``."""
        raise InputError(f"image {index} was not read")

    def picture(self, index: int) -> np.ndarray[Any, Any]:
        """Raises ``InputError``."""
        raise InputError(f"image {index} was not read")

    def stored(self, indices: Sequence[int]) -> Iterator[np.ndarray[Any, Any]]:
        """Raises ``InputError``."""
        raise InputError(f"{len(indices)} images were not read")


def minimal_header(*, sop_class: str, uid: str, study: str, series: str, modality: str) -> Dataset:
    """Return a header with what the ledger stores of a received image."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = sop_class, uid
    header.StudyInstanceUID, header.SeriesInstanceUID = study, series
    if modality:
        header.Modality = modality
    return header

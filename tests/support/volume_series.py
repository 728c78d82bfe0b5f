"""A series that holds a volume: what a pipeline sees, without files; and where the voxels of volumes lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from node.pipeline import Prior, Volume


@dataclass(frozen=True, eq=False)
class MaskResult:
    """Masks of another pipeline by label, as ``Result`` has them."""

    masks: dict[str, Volume]

    def mask(self, label: str, orientation: str | None = None) -> Volume | None:
        mask = self.masks.get(label)
        return mask if mask is None or orientation is None else mask.to_patient_orientation(orientation)


@dataclass(frozen=True, eq=False)
class VolumeSeries:
    """The contract's ``Series`` over a volume in any orientation; ``attributes`` are by keyword."""

    image: Volume
    modality: str = "CT"
    attributes: dict[str, Any] = field(default_factory=dict)
    prior: Prior | None = None
    companions: dict[str, VolumeSeries] = field(default_factory=dict)
    results: dict[str, MaskResult] = field(default_factory=dict)

    def attribute(self, keyword: str) -> Any:
        return self.attributes.get(keyword)

    def result(self, pipeline: str) -> MaskResult | None:
        return self.results.get(pipeline)

    def companion(self, name: str) -> VolumeSeries | None:
        return self.companions.get(name)

    def volume(self, orientation: str | None = None) -> Volume:
        turned = self.image if orientation is None else self.image.to_patient_orientation(orientation)
        return turned.with_array(np.ascontiguousarray(turned.array, np.float32))


def points(volume: Volume) -> np.ndarray:
    """LPS millimetres of the voxels inside."""
    return np.argwhere(volume.array) @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def same_places(one: np.ndarray, other: np.ndarray) -> bool:
    """As many points, each within a hundredth of a millimetre of one of the others."""
    there, _ = cKDTree(other).query(one)
    back, _ = cKDTree(one).query(other)
    return len(one) == len(other) and max(there.max(), back.max()) < 0.01

"""A series that holds a volume: what a pipeline sees, without files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from node.pipeline import Prior, Volume


@dataclass(frozen=True, eq=False)
class VolumeSeries:
    """The contract's ``Series`` over a volume in any orientation; ``attributes`` are by keyword."""

    image: Volume
    modality: str = "CT"
    attributes: dict[str, Any] = field(default_factory=dict)
    prior: Prior | None = None
    companions: dict[str, VolumeSeries] = field(default_factory=dict)

    def attribute(self, keyword: str) -> Any:
        return self.attributes.get(keyword)

    def companion(self, name: str) -> VolumeSeries | None:
        return self.companions.get(name)

    def volume(self, orientation: str | None = None) -> Volume:
        turned = self.image if orientation is None else self.image.to_patient_orientation(orientation)
        return turned.with_array(np.ascontiguousarray(turned.array, np.float32))

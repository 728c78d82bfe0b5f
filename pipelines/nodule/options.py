"""Options of ``[pipelines.nodule.options]``; importable without torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checked settings."""

    threshold: float = 0.5
    """Probability from which a candidate is reported, above 0 and below 1."""
    max_findings: int = 10
    """At most so many nodules are reported, the most probable first; 1 to 50."""
    min_diameter_mm: float = 4.0
    """Smaller outlines (diameter of the sphere of the same volume) are not reported; 0 to 30."""

    malignancy: bool = False
    """Also say how malignant the readers of LIDC might have thought a nodule: an opinion, no pathology."""
    maps: bool = False
    """Also say why and how surely: the detector's heat map, and how far its score differs between mirror images."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"nodule option threshold is {self.threshold}; use a number above 0 and below 1")
        if not 1 <= self.max_findings <= 50:
            raise ValueError(f"nodule option max_findings is {self.max_findings}; use 1 to 50")
        if not 0 <= self.min_diameter_mm <= 30:
            raise ValueError(f"nodule option min_diameter_mm is {self.min_diameter_mm}; use 0 to 30 mm")

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Options:
        """Values of a configuration table. Raises ``ValueError`` for an unknown key or a value of the wrong type."""
        kinds = {f.name: type(f.default) for f in fields(cls)}
        names = [f.name for f in fields(cls)]
        for key, value in table.items():
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
                raise ValueError(f"nodule option {key} = {value!r} is unknown; {hint}")
            fits = isinstance(value, kinds[key]) or (kinds[key] is float and isinstance(value, int))
            if not fits or isinstance(value, bool) != (kinds[key] is bool):
                wanted = "true or false" if kinds[key] is bool else f"a number ({kinds[key].__name__})"
                raise ValueError(f"nodule option {key} is {value!r}; give {wanted}")
        return cls(**table)

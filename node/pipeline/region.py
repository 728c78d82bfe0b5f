"""Regions: findings and landmarks with a shape instead of a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom.sr.coding import Code

from node.pipeline.assertion import presence_of
from node.pipeline.measurement import Measurement, check_label, check_once, check_unplaced
from node.pipeline.shape import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """One finding, such as a box of a detector, on an image or in the patient (TID 1410)."""

    label: str
    """Unique within the findings, at most 64 characters, for example ``"Opacity 1"``."""
    shape: Shape
    finding: Code
    """What it is, for example ``codes.DCM.Opacity``."""
    landmark: bool = False
    """A normal structure, such as the nipple: it is reported, and says nothing about findings."""
    site: Code | None = None
    laterality: Code | None = None
    """``codes.SCT.Left`` / ``Right`` of the patient, when it is known."""
    measurements: tuple[Measurement, ...] = ()
    probability: float | None = None
    """Of the finding being real, 0 to 1, as the algorithm states it."""
    tracking_uid: str = ""
    """Of the same region in an earlier study; empty: the node makes one."""
    evaluations: Mapping[Code, Code] = field(default_factory=dict)
    """As of a lesion."""

    def __post_init__(self) -> None:
        check_label("Region", self.label)
        check_once(self.label, self.measurements)
        check_unplaced(self.label, self.measurements)
        if not self.landmark and presence_of(self.evaluations.get(self.finding)) == "absent":
            raise ValueError(f"Region {self.label!r} is said to be absent in its evaluations; leave it out")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"Region.probability of {self.label!r} is {self.probability}; use 0 to 1")

    @property
    def rank(self) -> int:
        """Regions are reported in this order: certain ones (80 % and more), likely ones (50 %), others, landmarks."""
        sure = -1.0 if self.probability is None else self.probability
        return 4 if self.landmark else sum(sure < limit for limit in (0.8, 0.5, 0.0))

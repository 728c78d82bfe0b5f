"""Regions: findings and landmarks with a shape, or with a mask on one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom.sr.coding import Code

from node.pipeline.assertion import presence_of
from node.pipeline.measurement import Measurement, check_codes, check_label, check_once, check_unplaced, keep_tuples
from node.pipeline.shape import ImageReference, Shape


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
    mask: NDArray[np.bool_] | None = None
    """Pixels ``[row, column]`` of its image, of an image without a volume; see ``outlined``."""

    @classmethod
    def outlined(cls, mask: ArrayLike, *, on: ImageReference, **stated: Any) -> Region:
        """Return a region of the pixels of one image, which becomes a segment of a segmentation of that image.

        ``mask``: as large as the image, ``[row, column]``, non-zero inside. ``stated``: the other fields but ``shape``,
        which is the box around the mask; reports and viewers get the outline of its largest part.
        """
        pixels = np.asarray(mask) != 0
        if pixels.ndim != 2 or not pixels.any():
            what = "empty" if pixels.ndim == 2 else f"an array of {pixels.ndim} axes"
            raise ValueError(
                f"the mask of region {stated.get('label')!r} is {what}; give [row, column], non-zero inside"
            )
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        shape = Shape.box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, on=on)
        return cls(mask=pixels, shape=shape, **stated)

    def __post_init__(self) -> None:
        keep_tuples(self)
        check_label("Region", self.label)
        check_codes("Region", finding=self.finding)
        check_once(self.label, self.measurements)
        check_unplaced(self.label, self.measurements)
        if not self.landmark and presence_of(self.evaluations.get(self.finding)) == "absent":
            raise ValueError(f"Region {self.label!r} is said to be absent in its evaluations; leave it out")
        if self.mask is not None and (self.mask.ndim != 2 or not self.shape.sop_instance_uid):
            raise ValueError(f"Region.mask of {self.label!r} is not of one image; use Region.outlined")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"Region.probability of {self.label!r} is {self.probability}; use 0 to 1")

    @property
    def rank(self) -> int:
        """Regions are reported in this order: certain ones (80 % and more), likely ones (50 %), others, landmarks."""
        sure = -1.0 if self.probability is None else self.probability
        return 4 if self.landmark else sum(sure < limit for limit in (0.8, 0.5, 0.0))

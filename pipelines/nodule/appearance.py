"""Appearance of a nodule: texture, location and, optionally, suspicion of malignancy.

Texture and malignancy are coded as the published LIDC-IDRI reports are (Fedorov et al., Medical Physics 47, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.pipeline import Code, codes
from pipelines.nodule.lungs import Lungs
from pipelines.nodule.outline import Outline
from pipelines.structures import PRIVATE_SCHEME

SOLID_HU = -300.0
"""Denser voxels are the solid component (Scholten et al., European Radiology 25, 2015)."""
PARTLY, WHOLLY = 0.1, 0.7
"""Share of solid voxels from which a nodule is part-solid, and solid."""
PART_SOLID_MM = 6.0
"""Least diameter of a nodule that is called part-solid (MacMahon et al., Radiology 284, 2017)."""
TEXTURE = Code("C41144", "NCIt", "Texture")
SOLID = Code("RID50151", "RADLEX", "solid pulmonary nodule")
PART_SOLID = Code("RID50152", "RADLEX", "part-solid pulmonary nodule")
NON_SOLID = Code("RID50153", "RADLEX", "non-solid pulmonary nodule")
POSITION = Code("lung-position", PRIVATE_SCHEME, "Position in lung, by height")
THIRDS = (codes.SCT.LowerZoneOfLung, codes.SCT.MiddleZoneOfLung, codes.SCT.UpperZoneOfLung)
"""Of PS3.16 CID 6171: heights, not lobes."""
MALIGNANCY = Code("RID36042", "RADLEX", "Malignancy, readers' opinion (LIDC), no pathology")
SCORES = (
    Code("901", "99LIDCQIICR", "1 out of 5 (Highly Unlikely for Cancer)"),
    Code("902", "99LIDCQIICR", "2 out of 5 (Moderately Unlikely for Cancer)"),
    Code("903", "99LIDCQIICR", "3 out of 5 (Indeterminate Likelihood)"),
    Code("904", "99LIDCQIICR", "4 out of 5 (Moderately Suspicious for Cancer)"),
    Code("905", "99LIDCQIICR", "5 out of 5 (Highly Suspicious for Cancer)"),
)
"""An opinion that a reader of such images might have, no pathology."""


def texture(hu: npt.NDArray[np.float32], outline: Outline) -> Code | None:
    """Solid, part-solid or non-solid by the histogram of ``hu`` inside ``outline``; ``None`` where it cannot be told.

    Part-solid is not told of nodules under ``PART_SOLID_MM``, whose few voxels are mixed with air (Fleischner 2017).
    Voxels at the rim are mixed with air and left out, as long as a third of the mask remains.
    """
    inner = np.stack([ndimage.binary_erosion(plane) for plane in np.pad(outline.mask, ((0, 0), (1, 1), (1, 1)))])
    inner = inner[:, 1:-1, 1:-1]
    region = inner if 3 * inner.sum() >= outline.mask.sum() else outline.mask
    share = float((hu[outline.box][region] > SOLID_HU).mean())
    if PARTLY <= share < WHOLLY:
        return PART_SOLID if outline.diameter_mm >= PART_SOLID_MM else None
    return SOLID if share >= WHOLLY else NON_SOLID


def third(lungs: Lungs, place: Sequence[float], shape: Sequence[int]) -> Code | None:
    """Third of the lung, by height, that ``place`` (slice, row, column of a volume of ``shape``) lies in.

    A position, not a lobe: fissures are not looked for. Of the lung on that side of the midline. ``None`` where the
    images do not show the whole height of the lungs, or the side cannot be told.
    """
    z, _, x = ((p + 0.5) * m / n for p, m, n in zip(place, lungs.mask.shape, shape, strict=True))
    name, parted = lungs.side(x - 0.5), round(lungs.midline)
    if not (lungs.whole and name):
        return None
    side = np.s_[:, :, parted:] if name == "left" else np.s_[:, :, :parted]
    heights = np.flatnonzero(lungs.mask[side].any((1, 2)))
    part = (z - heights[0]) / (heights[-1] + 1 - heights[0])
    return THIRDS[int(np.clip(part * 3, 0, 2))]


def malignancy(score: float) -> Code:
    """The readers' scale, from the classifier's ``score`` of 1 to 5."""
    return SCORES[round(score) - 1]

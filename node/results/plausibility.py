"""Plausibility: remarks on poor images and on improbable findings.

The report states them, with the image quality of TID 1500 and CID 6044; no finding is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from node.pipeline import Findings, Lesion, codes
from node.studies.source import SourceSeries

METAL_HU = 2500.0
"""Denser than cortical bone and enamel."""
METAL_SHARE = 0.001
"""Of the sampled voxels. Chosen, not measured on patients."""
LARGEST_SHARE = 0.25
"""Of all voxels, air included: no lesion that is distinct from its surroundings fills more."""


def plausible(findings: Findings, source: SourceSeries) -> Findings:
    """Return ``findings`` with a remark for each reason to question them."""
    poor = tuple(_impairments(source))
    reservations = tuple(reservation for lesion in findings.lesions for reservation in _reservations(lesion))
    if not poor and not reservations:
        return findings
    quality = {codes.DCM.ImageQuality: codes.DCM.PoorImageQuality} if poor else {}
    return replace(
        findings, remarks=(*findings.remarks, *poor, *reservations), evaluations={**quality, **findings.evaluations}
    )


def _impairments(source: SourceSeries) -> Iterator[str]:
    levels = source.levels
    if source.modality != "CT" or not levels.size:
        return
    share = float(np.mean(levels > METAL_HU))
    if share > METAL_SHARE:
        yield f"Metal or contrast above {METAL_HU:.0f} HU in {100 * share:.1f} % of the voxels: expect artefacts."


def _reservations(lesion: Lesion) -> Iterator[str]:
    mask = np.asarray(lesion.segment.mask.array) != 0
    name = lesion.segment.label
    if mask.mean() > LARGEST_SHARE:
        yield f"{name} fills {100 * mask.mean():.0f} % of the images, which is hardly plausible."
    ends = (mask.take(end, axis).any() for axis in range(3) if mask.shape[axis] > 1 for end in (0, -1))
    if any(ends):
        yield f"{name} reaches the edge of what was analysed: it may be larger than measured."

"""Plausibility: remarks on poor images and on improbable findings.

The report states them, with the image quality of TID 1500 and CID 6044; no finding is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from node.pipeline import Findings, Lesion, Segment, Unsuitable, codes
from node.studies.source import SourceSeries

METAL_HU = 2500.0
"""Denser than cortical bone and enamel."""
METAL_SHARE = 0.001
"""Of the sampled voxels. Chosen, not measured on patients."""
LARGEST_SHARE = 0.25
"""Of all voxels, air included: no lesion that is distinct from its surroundings fills more."""


UNFIT_SHARE = 0.5
"""Of all voxels: a lesion that fills more is a fault of the model, such as an activation that was applied twice."""
UNFIT_STRUCTURE_SHARE = 0.99
"""The same for any structure: even the outline of a body in a tight field leaves the corners."""


def unfit(findings: Findings, source: SourceSeries) -> str:
    """Return why a result cannot be used at all, in words for a radiologist; empty when it can."""
    entries = [(lesion.segment, UNFIT_SHARE) for lesion in findings.lesions]
    entries += [(segment, UNFIT_STRUCTURE_SHARE) for segment in findings.segments]
    for segment, limit in entries:
        share = _share(segment, source)
        if share > limit:
            return (
                f"NOT ANALYSED: {segment.label} would fill {100 * share:.0f} % of the images, more than "
                f"{100 * limit:.0f} %: the model or its settings do not fit these images."
            )
    return ""


def _share(segment: Segment, source: SourceSeries) -> float:
    """Share of the images that a mask fills, whatever it is cropped to; 0 without a grid."""
    try:
        images = source.geometry
    except Unsuitable:
        return 0.0
    voxels = float(np.count_nonzero(segment.mask.array))
    return voxels * segment.mask.voxel_volume / (images.voxel_volume * float(np.prod(images.spatial_shape)))


def plausible(findings: Findings, source: SourceSeries) -> Findings:
    """Return ``findings`` with a remark for each reason to question them."""
    poor = tuple(_impairments(source))
    reservations = tuple(reservation for lesion in findings.lesions for reservation in _reservations(lesion, source))
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


def _reservations(lesion: Lesion, source: SourceSeries) -> Iterator[str]:
    share = _share(lesion.segment, source)
    mask = np.asarray(lesion.segment.mask.array) != 0
    name = lesion.segment.label
    if share > LARGEST_SHARE:
        yield f"{name} fills {100 * share:.0f} % of the images, which is hardly plausible."
    ends = (mask.take(end, axis).any() for axis in range(3) if mask.shape[axis] > 1 for end in (0, -1))
    if any(ends):
        yield f"{name} reaches the edge of what was analysed: it may be larger than measured."

"""Plausibility: remarks on poor images and on improbable findings.

The report states them, with the image quality of TID 1500 and CID 6044; no finding is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from node.pipeline import Findings, Lesion, Segment, Unsuitable, codes
from node.pipeline.label_map import Box, boxes_of, inside
from node.studies.source import SourceSeries
from node.translation import sentence

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
    boxes = boxes_of([segment for segment, _ in entries])
    for (segment, limit), box in zip(entries, boxes, strict=True):
        share = _share(segment, box, source)
        if share > limit:
            return sentence(
                "NOT ANALYSED: {label} would fill {share} % of the images, more than {limit} %: the model or its "
                "settings do not fit these images.",
                label=segment.label,
                share=f"{100 * share:.0f}",
                limit=f"{100 * limit:.0f}",
            )
    return ""


def _share(segment: Segment, box: Box | None, source: SourceSeries) -> float:
    """Share of the images that a mask fills, whatever it is cropped to; 0 without a grid. ``box``: of ``boxes_of``."""
    try:
        images = source.geometry
    except Unsuitable:
        return 0.0
    voxels = 0.0 if box is None else float(np.count_nonzero(inside(segment.mask.array[box], segment.value)))
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
        yield sentence(
            "Metal or contrast above {level} HU in {share} % of the voxels: expect artefacts.",
            level=f"{METAL_HU:.0f}",
            share=f"{100 * share:.1f}",
        )


def _reservations(lesion: Lesion, source: SourceSeries) -> Iterator[str]:
    (box,) = boxes_of([lesion.segment])
    share = _share(lesion.segment, box, source)
    shape = lesion.segment.mask.array.shape
    label = lesion.segment.label
    if share > LARGEST_SHARE:
        share_text = f"{100 * share:.0f}"
        yield sentence(
            "{label} fills {share} % of the images, which is hardly plausible.", label=label, share=share_text
        )
    ends = ((part.start == 0 or part.stop == size) for part, size in zip(box or (), shape, strict=False) if size > 1)
    if any(ends):
        yield sentence("{label} reaches the edge of what was analysed: it may be larger than measured.", label=label)

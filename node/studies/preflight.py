"""Does a series offer what a pipeline needs? Asked on headers, before voxels are read or a device is used."""

from __future__ import annotations

import numpy as np

from node.pipeline import Needs
from node.studies.grid import plane_name
from node.studies.source import SourceSeries


def unmet(needs: Needs, series: SourceSeries) -> str:
    """The reason why ``series`` is not applicable, in words for the radiologist; empty when every need is met."""
    if series.modality not in needs.modalities:
        return f"Modality is {series.modality or 'absent'}, needed is {_either(needs.modalities)}"
    body_part = str(series.attribute("BodyPartExamined") or "").strip().upper()
    if needs.body_parts and body_part and body_part not in needs.body_parts:
        return f"BodyPartExamined is {body_part}, needed is {_either(needs.body_parts)}"
    if len(series.datasets) < needs.min_slices:
        return f"the series has {len(series.datasets)} images, at least {needs.min_slices} are needed"
    if series.grid.affine is None:
        return series.grid.fault if needs.regular_grid else ""
    plane = plane_name(series.datasets[0].ImageOrientationPatient)
    if needs.planes and plane not in needs.planes:
        return f"the slices are {plane}, needed is {_either(needs.planes)}"
    step, row, column = (float(v) for v in np.linalg.norm(series.grid.affine[:3, :3], axis=0))
    for what, found, limit in (
        ("slices are", step if len(series.datasets) > 1 else 0.0, needs.max_slice_spacing_mm),
        ("pixels are", max(row, column), needs.max_pixel_spacing_mm),
    ):
        if limit is not None and found > limit:
            return f"{what} {found:g} mm apart, at most {limit:g} mm are needed"
    return ""


def _either(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))

"""Preflight: whether a series meets the needs of a pipeline, checked before a device is used."""

from __future__ import annotations

import numpy as np

from node.pipeline import VOLUME_KEYS, Needs
from node.studies.grid import Floats, plane_name
from node.studies.image_needs import taken_images
from node.studies.source import SourceSeries
from node.wording import written


def unmet(needs: Needs, series: SourceSeries) -> str:
    """The reason why ``series`` is not applicable, in words for the radiologist; empty when every need is met."""
    if needs.images:
        return _unmet_by_images(needs, series)
    images = series.first_volume if needs.volumes_by else series
    if reason := _wrong_kind(needs, images):
        return reason
    if needs.volumes_by:
        key = series.parts[0][0] if series.parts else {}
        if set(key) != {needs.volumes_by}:
            wanted = f"volumes that differ in {VOLUME_KEYS[needs.volumes_by]} alone are needed"
            return f"{series.grid.fault or 'the series holds one volume'}; {wanted}"
        series = images
    if series.grid.affine is None:
        return series.grid.fault if needs.regular_grid else ""
    return _wrong_geometry(needs, series, series.grid.affine) or _unusual(needs, series)


def _wrong_geometry(needs: Needs, series: SourceSeries, affine: Floats) -> str:
    plane = plane_name(series.datasets[0].ImageOrientationPatient)
    if needs.planes and plane not in needs.planes:
        return f"the slices are {plane}, needed is {_either(needs.planes)}"
    step, row, column = (float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    for what, value, limit in (
        ("slices are", step if len(series.datasets) > 1 else 0.0, needs.max_slice_spacing_mm),
        ("pixels are", max(row, column), needs.max_pixel_spacing_mm),
    ):
        if limit is not None and value > limit:
            return f"{what} {written(value)} mm apart, at most {written(limit)} mm are needed"
    first = series.datasets[0]
    for what, value, limit in (
        ("images cover", step * len(series.datasets), needs.min_coverage_mm),
        ("images are wide", min(row * int(first.Rows), column * int(first.Columns)), needs.min_field_mm),
    ):
        if limit is not None and value < limit:
            return f"{what} {value:.0f} mm, at least {written(limit)} mm are needed"
    return ""


def _unmet_by_images(needs: Needs, series: SourceSeries) -> str:
    taken, others = taken_images(needs, series)
    if reason := _wrong_modality(needs, series) or (others if taken is series else ""):
        return reason
    return _wrong_part(needs, taken) or _unusual(needs, taken)


def _wrong_kind(needs: Needs, series: SourceSeries) -> str:
    return _wrong_modality(needs, series) or series.unsuitable or _wrong_part(needs, series)


def _wrong_modality(needs: Needs, series: SourceSeries) -> str:
    modalities = {str(header.get("Modality") or "") for header in series.datasets}
    if modalities <= needs.modalities:
        return ""
    stated = " and ".join(sorted(modality or "absent" for modality in modalities))
    return f"Modality is {stated}, needed is {_either(needs.modalities)}"


def _wrong_part(needs: Needs, series: SourceSeries) -> str:
    body_part = str(series.attribute("BodyPartExamined") or "").strip().upper()
    if needs.body_parts and body_part and body_part not in needs.body_parts:
        return f"BodyPartExamined is {body_part}, needed is {_either(needs.body_parts)}"
    if len(series.datasets) < needs.min_slices:
        return f"the series has {len(series.datasets)} images, at least {needs.min_slices} are needed"
    return ""


def _unusual(needs: Needs, series: SourceSeries) -> str:
    """Which percentile of the grey levels is unlike the images that the pipeline was made for; empty: none."""
    levels = series.levels if needs.levels else np.empty(0, np.float32)
    if levels.size:
        for percent, (least, greatest) in needs.levels.items():
            value = float(np.percentile(levels, percent))
            if not least <= value <= greatest:
                return (
                    f"unlike the images this algorithm was made for: {percent} % of the grey levels are below "
                    f"{value:.0f}, expected is {written(least)} to {written(greatest)}"
                )
    return ""


def _either(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))

"""Preflight: whether a series meets the needs of a pipeline, checked before a device is used."""

from __future__ import annotations

import numpy as np

from node.pipeline import VOLUME_KEYS, Needs
from node.studies.grid import Floats, plane_name
from node.studies.image_needs import taken_images
from node.studies.source import SourceSeries
from node.translation import Sentence, gettext, in_every_language, joined, marked, sentence
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
            return sentence(
                "{fault}; volumes that differ in {key} alone are needed",
                fault=series.grid.fault or sentence("the series holds one volume"),
                key=sentence(VOLUME_KEYS[needs.volumes_by]),
            )
        series = images
    if series.grid.affine is None:
        return series.grid.fault if needs.regular_grid else ""
    return _wrong_geometry(needs, series, series.grid.affine) or _unusual(needs, series)


def _wrong_geometry(needs: Needs, series: SourceSeries, affine: Floats) -> str:
    plane = plane_name(series.datasets[0].ImageOrientationPatient)
    if needs.planes and plane not in needs.planes:
        return sentence(
            "the slices are {plane}, needed is {planes}", plane=sentence(plane), planes=_either(needs.planes)
        )
    step, row, column = (float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    for text, value, limit in (
        (
            marked("slices are {value} mm apart, at most {limit} mm are needed"),
            step if len(series.datasets) > 1 else 0.0,
            needs.max_slice_spacing_mm,
        ),
        (
            marked("pixels are {value} mm apart, at most {limit} mm are needed"),
            max(row, column),
            needs.max_pixel_spacing_mm,
        ),
    ):
        if limit is not None and value > limit:
            return sentence(text, value=written(value), limit=written(limit))
    first = series.datasets[0]
    for text, value, limit in (
        (
            marked("images cover {value} mm, at least {limit} mm are needed"),
            step * len(series.datasets),
            needs.min_coverage_mm,
        ),
        (
            marked("images are wide {value} mm, at least {limit} mm are needed"),
            min(row * int(first.Rows), column * int(first.Columns)),
            needs.min_field_mm,
        ),
    ):
        if limit is not None and value < limit:
            return _with_left_out(series, sentence(text, value=f"{value:.0f}", limit=written(limit)))
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
    stated = joined(sorted(modality or sentence("absent") for modality in modalities), " and ")
    return sentence("Modality is {stated}, needed is {wanted}", stated=stated, wanted=_either(needs.modalities))


def _wrong_part(needs: Needs, series: SourceSeries) -> str:
    body_part = str(series.attribute("BodyPartExamined") or "").strip().upper()
    if needs.body_parts and body_part and body_part not in needs.body_parts:
        wanted = _either(needs.body_parts)
        return sentence("BodyPartExamined is {stated}, needed is {wanted}", stated=body_part, wanted=wanted)
    if len(series.datasets) < needs.min_slices:
        number = len(series.datasets)
        reason = sentence(
            "the series has {number} images, at least {least} are needed", number=number, least=needs.min_slices
        )
        return _with_left_out(series, reason)
    return ""


def _with_left_out(series: SourceSeries, reason: str) -> str:
    """Say why there is less than the series has: a gap, for example."""
    return joined(filter(None, (reason, series.left_out)), "; ")


def _unusual(needs: Needs, series: SourceSeries) -> str:
    """Which percentile of the grey levels is unlike the images that the pipeline was made for; empty: none."""
    levels = series.levels if needs.levels else np.empty(0, np.float32)
    if levels.size:
        for percent, (least, greatest) in needs.levels.items():
            value = float(np.percentile(levels, percent))
            if not least <= value <= greatest:
                return sentence(
                    "unlike the images this algorithm was made for: {percent} % of the grey levels are below {value}, "
                    "expected is {least} to {greatest}",
                    percent=percent,
                    value=f"{value:.0f}",
                    least=written(least),
                    greatest=written(greatest),
                )
    return ""


def _either(values: frozenset[str]) -> Sentence:
    return in_every_language(lambda: gettext(" or ").join(gettext(value) for value in sorted(values)))

"""What has become of each lesion of an earlier study: which is which, and how its volume has changed.

Lesions are matched where they lie, after the shift between the two studies (``node.studies.alignment``) is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

import numpy as np
from highdicom import Volume
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from scipy.optimize import linear_sum_assignment

from node.errors import InputError
from node.pipeline import Algorithm, Findings, Lesion, Measurement, Prior, PriorFinding, Series, Unsuitable
from node.results.analysis import outcome_of
from node.results.identity import plain
from node.results.prior import day
from node.results.prior_masks import middle_mm
from node.studies.alignment import Array, shift_mm

EARLIER_VOLUME = Code("volume-before", "99AINODE", "Volume in the earlier study")
CHANGE = Code("volume-change", "99AINODE", "Change of volume since the earlier study")
DOUBLING_TIME = Code("doubling-time", "99AINODE", "Volume doubling time")
_DAYS = Code("d", "UCUM", "day")
_APART_MM = 20.0
"""How far a lesion may have moved against the body: breath, posture, turns of the head."""
_GROWN = 1.25
"""A smaller ratio of volumes may be an error of measurement (British Thoracic Society, Thorax 2015)."""


def compare(findings: Findings, series: Series, algorithm: Algorithm, without: str) -> Findings:
    """``findings`` with what has changed since the prior of ``series``, lesion by lesion where they can be told apart.

    A lesion that was there before keeps its tracking UID, and gets its volume then, the change in per cent and, when it
    has grown, the volume doubling time (interval x ln 2 / ln of the ratio; MacMahon et al., Radiology 2017).
    ``without``: the remark when there is no prior; ``""``: none was asked for. Pipelines that look for nothing have
    nothing to compare.
    """
    if outcome_of(findings) == "derived":
        return findings
    prior, study_date = series.prior, day(series.attribute("StudyDate"))
    if prior is None or study_date is None:
        return replace(findings, remarks=(*findings.remarks, without)) if without else findings
    others = {segment.type for segment in findings.segments}
    then = [one for one in prior.findings if one.finding not in others]
    days = (study_date - prior.study_date).days
    volumes = [_volume_mm3(lesion.segment.mask) for lesion in findings.lesions]
    remarks = [_summary(prior, then, volumes, days)]
    if prior.version != plain(algorithm.version):
        remarks.append(f"The algorithm was version {prior.version} then and is {algorithm.version} now.")
    lesions = list(findings.lesions)
    if then and lesions:
        shift = _shift(series, prior)
        if shift is None:
            remarks.append("Findings are not matched one to one: the images of both studies could not be aligned.")
        else:
            pairs = _pairs(lesions, then, shift)
            for now, before in pairs.items():
                lesions[now] = _followed(lesions[now], volumes[now], then[before], days)
            remarks += _told(lesions, volumes, then, pairs)
    return replace(findings, lesions=tuple(lesions), remarks=(*findings.remarks, *remarks))


def _summary(prior: Prior, then: Sequence[PriorFinding], now: Sequence[float], days: int) -> str:
    before = [one.volume_mm3 for one in then]
    remark = (
        f"Compared with the study of {prior.study_date}, {days} days before: {_said(before)} then, {_said(now)} now"
    )
    if sum(before) and sum(now):
        remark += f", a change of {_percent(sum(now), sum(before)):+.0f} % in total volume"
    return remark + "."


def _shift(series: Series, prior: Prior) -> Array | None:
    """From places of the earlier study to those of this one, LPS mm; ``None``: it cannot be known."""
    then = {one.mask.frame_of_reference_uid for one in prior.findings if one.mask is not None}
    if prior.series is not None:
        then.add(prior.series.attribute("FrameOfReferenceUID"))
    if then == {series.attribute("FrameOfReferenceUID") or None} != {None}:
        return np.zeros(3)
    if prior.series is None:
        return None
    try:
        return shift_mm(series.volume(), prior.series.volume())
    except (Unsuitable, InputError):
        return None


def _pairs(lesions: Sequence[Lesion], then: Sequence[PriorFinding], shift: Array) -> dict[int, int]:
    """Index now -> index then, of lesions of one kind that lie together; all distances together are least."""
    far = 1e6
    costs = np.full((len(lesions), len(then)), far)
    for column, one in enumerate(then):
        for row, lesion in enumerate(lesions):
            if one.place_mm is not None and lesion.finding == one.finding:
                costs[row, column] = np.linalg.norm(middle_mm(lesion.segment.mask) - (np.array(one.place_mm) + shift))
    costs[costs > _APART_MM] = far
    return {int(r): int(c) for r, c in zip(*linear_sum_assignment(costs), strict=True) if costs[r, c] < far}


def _followed(lesion: Lesion, now: float, then: PriorFinding, days: int) -> Lesion:
    measured = [
        Measurement(name=EARLIER_VOLUME, value=then.volume_mm3, unit=codes.UCUM.CubicMillimeter),
        Measurement(name=CHANGE, value=_percent(now, then.volume_mm3), unit=codes.UCUM.Percent),
    ]
    if days > 0 and now >= _GROWN * then.volume_mm3:
        doubling = days * log(2) / log(now / then.volume_mm3)
        measured.append(Measurement(name=DOUBLING_TIME, value=doubling, unit=_DAYS))
    return replace(lesion, tracking_uid=then.tracking_uid, measurements=(*lesion.measurements, *measured))


def _told(
    lesions: Sequence[Lesion], volumes: Sequence[float], then: Sequence[PriorFinding], pairs: dict[int, int]
) -> list[str]:
    """A sentence for each lesion, and one for those that are not found any more."""
    sentences = []
    for index, (lesion, volume) in enumerate(zip(lesions, volumes, strict=True)):
        label = lesion.segment.label
        if index not in pairs:
            sentences.append(f"{label}: not found in the earlier study.")
            continue
        before = then[pairs[index]].volume_mm3
        doubling = next(
            (f", doubling in {m.value:.0f} days" for m in lesion.measurements if m.name == DOUBLING_TIME), ""
        )
        change = _percent(volume, before)
        sentences.append(f"{label}: {before:.4g} mm3 then, {volume:.4g} mm3 now ({change:+.0f} %{doubling}).")
    gone = [one.volume_mm3 for index, one in enumerate(then) if index not in pairs.values()]
    if gone:
        sentences.append(f"Not found any more: {_said(gone)}.")
    return sentences


def _percent(now: float, then: float) -> float:
    return 100.0 * (now / then - 1.0)


def _said(volumes: Sequence[float]) -> str:
    if not volumes:
        return "no finding"
    return f"{len(volumes)} finding{'s' if len(volumes) > 1 else ''} of {sum(volumes):.4g} mm3"


def _volume_mm3(mask: Volume) -> float:
    return float(np.count_nonzero(mask.array) * mask.voxel_volume)

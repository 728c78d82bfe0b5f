"""Growth: matches the lesions of a prior study and states how their volumes have changed.

Lesions are matched where they lie, after the shift between the two studies (``node.studies.alignment``) is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import log

import numpy as np
from highdicom import Volume
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.errors import InputError
from node.outcome import Outcome
from node.pipeline import Algorithm, Findings, Lesion, Measurement, Prior, PriorFinding, Series, Unsuitable
from node.pipeline.label_map import own_masks
from node.results.analysis import outcome_of
from node.results.prior import growth_text as words
from node.results.prior.masks import middle_mm
from node.results.report_codes import CHANGE, DOUBLING_TIME, EARLIER_VOLUME
from node.studies.alignment import Array, shift_mm
from node.studies.attribute_values import day
from node.translation import gettext, sentence
from node.wording import quantity

_DAYS = Code("d", "UCUM", "day")
_APART_MM = 20.0
"""How far a lesion may have moved against the body: breath, posture, turns of the head."""
_GROWN = 1.25
"""A smaller ratio of volumes may be an error of measurement (British Thoracic Society, Thorax 2015)."""


def compare(findings: Findings, series: Series, algorithm: Algorithm, without: str) -> Findings:
    """``findings`` with what has changed since the prior of ``series``, lesion by lesion where they can be told apart.

    A lesion that was reported before keeps its tracking UID, and gets its volume then; where both analyses are alike
    the change in per cent, too, and, when it has grown, the volume doubling time (interval x ln 2 / ln of the ratio;
    MacMahon et al., Radiology 2017).
    ``without``: the remark when there is no prior; ``""``: none was asked for. Pipelines that look for nothing have
    nothing to compare.
    """
    if outcome_of(replace(findings, partial="")) == Outcome.DERIVED:
        return findings
    prior, study_date = series.prior, day(series.attribute("StudyDate"))
    if prior is None or study_date is None:
        return replace(findings, remarks=(*findings.remarks, without)) if without else findings
    if findings.regions:
        return replace(findings, remarks=(*findings.remarks, sentence(words.NOT_COMPARED)))
    others = {segment.type for segment in findings.segments}
    then = [finding for finding in prior.findings if finding.finding not in others]
    days = (study_date - prior.study_date).days
    masks = own_masks([lesion.segment for lesion in findings.lesions])
    volumes = [_volume_mm3(mask) for mask in masks]
    differ = words.differences(prior, series, algorithm)
    remarks: list[str] = [words.summary(prior, then, volumes, days), *words.limits(prior, findings, differ)]
    lesions = list(findings.lesions)
    shift = _shift(series, prior) if then or lesions else None
    if then and lesions and (shift is None or any(finding.place_mm is None for finding in then)):
        remarks.append(sentence(words.NOT_MATCHED))
        return replace(findings, remarks=(*findings.remarks, *remarks))
    places = [middle_mm(mask) for mask in masks] if shift is not None else []
    pairs = _pairs(lesions, places, then, shift) if then and lesions and shift is not None else {}
    for now, volume in enumerate(volumes):
        if now in pairs:
            before = then[pairs[now]]
            growth = () if differ else tuple(_growth(volume, before.volume_mm3, days))
            lesions[now] = _followed(lesions[now], before, growth)
            remarks.append(words.followed(lesions[now], volume, before, partial(_in_words, growth)))
        else:
            covered = shift is None or _shows(prior.series, places[now] - shift)
            remarks.append(words.not_reported_before(lesions[now], covered=covered))
    if len(pairs) < len(lesions):
        remarks.append(sentence(words.MAY_HAVE_BEEN))
    if vanished := [finding for index, finding in enumerate(then) if index not in pairs.values()]:
        outside = (
            sum(not _shows(series, np.array(finding.place_mm) + shift) for finding in vanished if finding.place_mm)
            if shift is not None
            else 0
        )
        remarks.append(words.not_reported_now(vanished, outside))
    return replace(findings, lesions=tuple(lesions), remarks=(*findings.remarks, *remarks))


def _shift(series: Series, prior: Prior) -> Array | None:
    """Return the shift from the prior study to this one, LPS mm; ``None`` if it cannot be determined."""
    then = {finding.mask.frame_of_reference_uid for finding in prior.findings if finding.mask is not None}
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


def _pairs(
    lesions: Sequence[Lesion], places: Sequence[Array], then: Sequence[PriorFinding], shift: Array
) -> dict[int, int]:
    """Index now -> index then, of lesions of one kind that lie together; all distances together are least."""
    far = 1e6
    costs = np.full((len(lesions), len(then)), far)
    for column, finding in enumerate(then):
        for row, lesion in enumerate(lesions):
            if finding.place_mm is not None and lesion.finding == finding.finding:
                costs[row, column] = np.linalg.norm(places[row] - (np.array(finding.place_mm) + shift))
    from scipy.optimize import linear_sum_assignment  # 0.2 s that no analysis without a prior needs

    costs[costs > _APART_MM] = far
    return {int(r): int(c) for r, c in zip(*linear_sum_assignment(costs), strict=True) if costs[r, c] < far}


def _followed(lesion: Lesion, before: PriorFinding, growth: Sequence[Measurement]) -> Lesion:
    volume = Measurement(name=EARLIER_VOLUME, value=before.volume_mm3, unit=codes.UCUM.CubicMillimeter)
    return replace(lesion, tracking_uid=before.tracking_uid, measurements=(*lesion.measurements, volume, *growth))


def _growth(now: float, then: float, days: int) -> Iterator[Measurement]:
    """Change in per cent and, of what has grown, the doubling time in days; nothing of what had no volume."""
    if then <= 0:
        return
    yield Measurement(name=CHANGE, value=100.0 * (now / then - 1.0), unit=codes.UCUM.Percent)
    if days > 0 and now >= _GROWN * then:
        yield Measurement(name=DOUBLING_TIME, value=days * log(2) / log(now / then), unit=_DAYS)


def _in_words(growth: Sequence[Measurement]) -> str:
    if not growth:
        return ""
    change = quantity(growth[0].value, "%", signed=True)
    if len(growth) > 1:
        return gettext("{change}, doubling in {time}", change=change, time=quantity(growth[1].value, "d"))
    ratio = 1 + growth[0].value / 100
    if 1 / _GROWN < ratio < _GROWN:
        return gettext("{change}, within the error of measurement", change=change)
    return change


def _shows(series: Series | None, place: Array) -> bool:
    """Whether the images reach a place, LPS mm; true when that cannot be known."""
    if series is None:
        return True
    try:
        volume = series.volume()
    except (Unsuitable, InputError):
        return True
    index = (np.linalg.inv(volume.affine) @ [*place, 1.0])[:3]
    return bool((index >= -0.5).all() and (index <= np.array(volume.spatial_shape) - 0.5).all())


def _volume_mm3(mask: Volume) -> float:
    return float(np.count_nonzero(mask.array) * mask.voxel_volume)

"""Text that compares two reports; it never states growth or novelty that the data cannot show.

A finding of one report that the other lacks is only *not reported* there: the other analysis may not have been able to
see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from node.pipeline import Algorithm, Findings, Lesion, Prior, PriorFinding, Series
from node.results.identity import plain
from node.wording import digits, quantity

_THICKER = 1.25
"""Slices whose thickness differs by more show other findings, and other volumes of the same one."""
_WEIGHTS = "weights_sha256"
_ELSEWHERE = frozenset({_WEIGHTS, "precision", "maps"})
"""Parameters that are no settings for what is reported."""
MAY_HAVE_BEEN = (
    "What was not reported earlier is not necessarily new: it may have been too small or too doubtful to be reported, "
    "or the earlier analysis could not see it."
)

NOT_COMPARED = "Findings without an outline are not compared with the earlier study."


def differences(prior: Prior, series: Series, algorithm: Algorithm) -> tuple[str, ...]:
    """Return technical differences between the analyses that change volumes without any change in the patient."""
    return tuple(_differences(prior, series, algorithm))


def _differences(prior: Prior, series: Series, algorithm: Algorithm) -> Iterator[str]:
    if prior.version != plain(algorithm.version):
        yield f"the algorithm was version {prior.version} then and is {algorithm.version} now"
    before = prior.parameters
    if before and before.get(_WEIGHTS, "") != (algorithm.weights_sha256 or ""):
        yield "the model was another one then"
    after = {plain(key): plain(value, 256) for key, value in algorithm.parameters.items()}
    for key in sorted((before.keys() & after.keys()) - _ELSEWHERE):
        if before[key] != after[key]:
            yield f"the setting {key} was {before[key]} then and is {after[key]} now"
    thick = [_thickness(one) for one in (prior.series, series)]
    if min(thick) and max(thick) > _THICKER * min(thick):
        yield f"the slices were {digits(thick[0], '')} mm thick then and are {digits(thick[1], '')} mm now"


def _thickness(series: Series | None) -> float:
    """Slice Thickness in mm; 0 when it is not known."""
    try:
        return float(series.attribute("SliceThickness") or 0) if series is not None else 0.0
    except (TypeError, ValueError):
        return 0.0


def summary(prior: Prior, then: Sequence[PriorFinding], now: Sequence[float], days: int) -> str:
    """Both reports side by side; volumes in mm3."""
    before = listed([one.volume_mm3 for one in then])
    return (
        f"Compared with the study of {prior.study_date}, {quantity(days, 'd')} before: {before} reported then, "
        f"{listed(now)} now."
    )


def limits(prior: Prior, findings: Findings, differ: Sequence[str]) -> Iterator[str]:
    """Sentences on what keeps both analyses from being compared."""
    if prior.partial:
        yield "The earlier analysis saw only a part of the images."
    if findings.partial:
        yield "This analysis saw only a part of the images."
    if differ:
        yield f"Changes of volume are not given, because {'; '.join(differ)}."


def followed(lesion: Lesion, volume: float, before: PriorFinding, change: str) -> str:
    """Of a lesion that was reported then, too; ``change``: in words, ``""``: not to be given."""
    in_ml = max(volume, before.volume_mm3) >= 1000
    then, now = (quantity(v / 1000, "ml") if in_ml else quantity(v, "mm3") for v in (before.volume_mm3, volume))
    text = f"{lesion.segment.label}: {then} then, {now} now"
    if change:
        text += f" ({change})"
    sure = [_percent(one) for one in (before.probability, lesion.probability)]
    if all(sure):
        text += f"; certainty {sure[0]} then, {sure[1]} now"
    return f"{text}."


def not_reported_before(lesion: Lesion, *, covered: bool) -> str:
    """Of a lesion that the earlier report lacks; ``covered``: as far as is known, the earlier images show its place."""
    sure = _percent(lesion.probability)
    return (
        f"{lesion.segment.label}: not reported earlier"
        + (f"; certainty {sure} now" if sure else "")
        + ("." if covered else "; the earlier images do not show this place.")
    )


def not_reported_now(vanished: Sequence[PriorFinding], outside: int) -> str:
    """Of findings that this report lacks, ``outside`` of them where the present images do not reach."""
    text = f"Not reported now: {listed([one.volume_mm3 for one in vanished])}"
    if outside:
        text += f", {outside} of {len(vanished)} at a place that the present images do not show"
    return f"{text}."


def listed(volumes: Sequence[float]) -> str:
    """Return the number of lesions and their total volume; mm3."""
    if not volumes:
        return "no finding"
    return f"{len(volumes)} finding{'s' if len(volumes) > 1 else ''} of {quantity(sum(volumes), 'mm3')}"


def parameters_of(texts: Sequence[str]) -> Mapping[str, str]:
    """Algorithm Parameters of a report (TID 4019), written as ``"threshold=0.5"``."""
    return dict(text.split("=", 1) for text in texts if "=" in text)


def _percent(probability: float | None) -> str:
    return "" if probability is None else quantity(100 * probability, "%")

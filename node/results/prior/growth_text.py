"""Text that compares two reports; it never states growth or novelty that the data cannot show.

A finding of one report that the other lacks is only *not reported* there: the other analysis may not have been able to
see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from node.pipeline import Algorithm, Findings, Lesion, Prior, PriorFinding, Series
from node.results.identity import plain
from node.results.terms import label_of
from node.translation import Sentence, gettext, in_every_language, joined, marked, ngettext, sentence
from node.wording import digits, quantity

_THICKER = 1.25
"""Slices whose thickness differs by more show other findings, and other volumes of the same one."""
_WEIGHTS = "weights_sha256"
_ELSEWHERE = frozenset({_WEIGHTS, "precision", "maps"})
"""Parameters that are no settings for what is reported."""
MAY_HAVE_BEEN = marked(
    "What was not reported earlier is not necessarily new: it may have been too small or too doubtful to be reported, "
    "or the earlier analysis could not see it."
)
NOT_COMPARED = marked("Findings without an outline are not compared with the earlier study.")
NOT_MATCHED = marked("Findings are not matched one to one: the images of both studies could not be aligned.")


def differences(prior: Prior, series: Series, algorithm: Algorithm) -> tuple[str, ...]:
    """Return technical differences between the analyses that change volumes without any change in the patient."""
    return tuple(_differences(prior, series, algorithm))


def _differences(prior: Prior, series: Series, algorithm: Algorithm) -> Iterator[str]:
    if prior.version != plain(algorithm.version):
        yield _then_and_now(
            marked("the algorithm was version {before} then and is {after} now"), prior.version, algorithm.version
        )
    before = prior.parameters
    if before and before.get(_WEIGHTS, "") != (algorithm.weights_sha256 or ""):
        yield sentence("the model was another one then")
    after = {plain(key): plain(value, 256) for key, value in algorithm.parameters.items()}
    for key in sorted((before.keys() & after.keys()) - _ELSEWHERE):
        if before[key] != after[key]:
            yield _then_and_now(
                marked("the setting {key} was {before} then and is {after} now"), before[key], after[key], key
            )
    thick = [_thickness(images) for images in (prior.series, series)]
    if min(thick) and max(thick) > _THICKER * min(thick):
        yield sentence(
            "the slices were {before} mm thick then and are {after} mm now",
            before=digits(thick[0], ""),
            after=digits(thick[1], ""),
        )


def _then_and_now(text: str, before: str, after: str, key: str = "") -> Sentence:
    """Values that are no numbers to a reader stay as they are."""
    return in_every_language(lambda: gettext(text, before=before, after=after, key=key))


def _thickness(series: Series | None) -> float:
    """Slice Thickness in mm; 0 when it is not known."""
    try:
        return float(series.attribute("SliceThickness") or 0) if series is not None else 0.0
    except (TypeError, ValueError):
        return 0.0


def summary(prior: Prior, then: Sequence[PriorFinding], now: Sequence[float], days: int) -> Sentence:
    """Both reports side by side; volumes in mm3."""
    volumes = [finding.volume_mm3 for finding in then]
    return in_every_language(
        lambda: gettext(
            "Compared with the study of {date}, {days} before: {then} reported then, {now} now.",
            date=prior.study_date,
            days=quantity(days, "d"),
            then=listed(volumes),
            now=listed(now),
        )
    )


def limits(prior: Prior, findings: Findings, differ: Sequence[str]) -> Iterator[Sentence]:
    """Sentences on what keeps both analyses from being compared."""
    if prior.partial:
        yield sentence("The earlier analysis saw only a part of the images.")
    if findings.partial:
        yield sentence("This analysis saw only a part of the images.")
    if differ:
        yield sentence("Changes of volume are not given, because {reasons}.", reasons=joined(differ, "; "))


def followed(lesion: Lesion, volume: float, before: PriorFinding, change: Callable[[], str]) -> Sentence:
    """Of a lesion that was reported then, too; ``change``: in words, ``""``: not to be given."""
    return in_every_language(lambda: _followed(lesion, volume, before, change()))


def _followed(lesion: Lesion, volume: float, before: PriorFinding, change: str) -> str:
    in_ml = max(volume, before.volume_mm3) >= 1000
    then, now = (quantity(v / 1000, "ml") if in_ml else quantity(v, "mm3") for v in (before.volume_mm3, volume))
    text = gettext("{label}: {then} then, {now} now", label=label_of(lesion.segment), then=then, now=now)
    if change:
        text += f" ({change})"
    sure = [_percent(probability) for probability in (before.probability, lesion.probability)]
    if all(sure):
        text += gettext("; certainty {then} then, {now} now", then=sure[0], now=sure[1])
    return gettext("{sentence}.", sentence=text)


def not_reported_before(lesion: Lesion, *, covered: bool) -> Sentence:
    """Of a lesion that the earlier report lacks; ``covered``: as far as is known, the earlier images show its place."""
    return in_every_language(lambda: _not_reported_before(lesion, covered=covered))


def _not_reported_before(lesion: Lesion, *, covered: bool) -> str:
    sure = _percent(lesion.probability)
    text = gettext("{label}: not reported earlier", label=label_of(lesion.segment))
    text += gettext("; certainty {now} now", now=sure) if sure else ""
    text += "" if covered else gettext("; the earlier images do not show this place")
    return gettext("{sentence}.", sentence=text)


def not_reported_now(vanished: Sequence[PriorFinding], outside: int) -> Sentence:
    """Of findings that this report lacks, ``outside`` of them where the present images do not reach."""
    return in_every_language(lambda: _not_reported_now(vanished, outside))


def _not_reported_now(vanished: Sequence[PriorFinding], outside: int) -> str:
    text = gettext("Not reported now: {findings}", findings=listed([finding.volume_mm3 for finding in vanished]))
    if outside:
        text += gettext(
            ", {outside} of {all} at a place that the present images do not show", outside=outside, all=len(vanished)
        )
    return gettext("{sentence}.", sentence=text)


def listed(volumes: Sequence[float]) -> str:
    """Return the number of lesions and their total volume; mm3."""
    if not volumes:
        return gettext("no finding")
    total = quantity(sum(volumes), "mm3")
    return ngettext("{number} finding of {volume}", "{number} findings of {volume}", len(volumes), volume=total)


def parameters_of(texts: Sequence[str]) -> Mapping[str, str]:
    """Algorithm Parameters of a report (TID 4019), written as ``"threshold=0.5"``."""
    return dict(text.split("=", 1) for text in texts if "=" in text)


def _percent(probability: float | None) -> str:
    return "" if probability is None else quantity(100 * probability, "%")

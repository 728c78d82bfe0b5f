"""Meanings of codes and names of findings in the language that is spoken, for reports and pictures.

The impression's catalogs have the terms, those of ``node.translation`` the names of measurements and of this software's
own structures. A term that neither has, such as a code of a third-party pipeline, stays in English.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

from node.results.impression.translation import Translation, translation
from node.translation import Sentence, current_language, gettext, in_every_language, marked

if TYPE_CHECKING:  # the dashboard shows terms, and no role may import what decodes pixels
    from node.pipeline import Segment

_MEASURED = (
    *(marked("Long axis"), marked("Short axis"), marked("Volume"), marked("Certainty of Finding")),
    *(marked("Spread of probability"), marked("CAD Operating Point"), marked("Volume in the earlier study")),
    *(marked("Change of volume since the earlier study"), marked("Volume doubling time"), marked("Texture")),
    *(marked("Position in lung, by height"), marked("Position in head, front to back"), marked("Quality Assessment")),
    *(marked("Usable - Does not meet the quality control standard"), marked("Saliency")),
    *(marked("Probability of FLAIR abnormality"), marked("Probability of nodule")),
    *(marked("Mean Attenuation Coefficient"), marked("Standard Deviation of Attenuation Coefficient")),
    *(marked("Minimum Attenuation Coefficient"), marked("Maximum Attenuation Coefficient")),
    *(marked("Lower zone of lung"), marked("Middle zone of lung"), marked("Upper zone of lung")),
    *(marked("anterior third"), marked("middle third"), marked("posterior third")),
)
"""Meanings of what is measured and judged, and names of maps."""
_TITLES = marked("nodule"), marked("FLAIR abnormality"), marked("denoise"), marked("brain")
"""Titles of the built-in pipelines: the translations say no more than the words, which may name another pipeline."""


def term(meaning: str) -> str:
    """Return the meaning of a code."""
    words = _words()
    if words is None:
        return meaning
    return words.of(meaning) if words.has(meaning) else gettext(meaning)


def title_in_words(title: str) -> str:
    """Return the title of a pipeline; one that a site or a third party chose stays as it is."""
    return gettext(title) if title in _TITLES else title


def label_in_words(label: str, meaning: str, laterality: Code | None = None) -> str:
    """Return the label of a finding where it is made of what the finding is, with a number or a side; else as it is."""
    if _words() is None:
        return label
    name, _, number = label.rpartition(" ")
    if label.casefold() == meaning.casefold():
        return _beginning(term(meaning))
    if number.isdigit() and name.casefold() == meaning.casefold():
        return f"{_beginning(term(meaning))} {number}"
    side = laterality.meaning if laterality is not None else ""
    if side and label.casefold() == f"{side} {meaning}".casefold():
        return _beginning(gettext("{side} {structure}", side=term(side.lower()), structure=term(meaning)))
    return _beginning(gettext(label.lower())) if gettext(label.lower()) != label.lower() else label


def label_of(segment: Segment) -> Sentence:
    """Return the label of a segment, for a sentence."""
    return in_every_language(lambda: label_in_words(segment.label, segment.type.meaning, segment.laterality))


def place_in_words(site: Code | None, laterality: Code | None) -> str:
    """Return side and site, as they stand after a finding."""
    places = [code.meaning.lower() for code in (laterality, site) if code is not None]
    words, phrase = _words(), " ".join(places)
    if words is None or words.has(phrase):
        return words.of(phrase) if words else phrase
    if site is not None and laterality is not None:
        return gettext("{side} {structure}", side=term(places[0]), structure=term(site.meaning))
    return term(site.meaning) if site is not None else "".join(map(term, places))


def in_text(finding: Code, site: Code | None, laterality: Code | None) -> str:
    """Return a finding with its side and site."""
    elsewhere = None if site is None or site == finding else site
    place = place_in_words(elsewhere, laterality)
    return f"{term(finding.meaning)}{gettext(', ')}{place}" if place else term(finding.meaning)


def evaluation_lines(evaluations: Mapping[Code, Code]) -> tuple[str, ...]:
    """Return what was judged, one line for each evaluation."""
    colon = gettext(": ")
    return tuple(f"{term(name.meaning)}{colon}{term(value.meaning)}" for name, value in evaluations.items())


def _words() -> Translation | None:
    """``None``: in English codes are written as they are."""
    language = current_language()
    return None if language == "en" else translation(language)


def _beginning(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"

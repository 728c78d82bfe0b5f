"""Names of results in a viewer's study list: Series Description and Series Number.

``NO FINDINGS - AI nodule report``: the outcome comes first, because lists of series cut off what is long. A result
that takes the place of another one reads ``NO FINDINGS v2 - AI nodule report, 133 images``, and its Series Number sorts
after the other's.
"""

from __future__ import annotations

from collections.abc import Mapping

from node.errors import EncodeError
from node.outcome import Outcome
from node.results.analysis import Analysis, Source
from node.results.identity import plain

LONGEST = 64
"""Characters of a Series Description (PS3.5 6.2, LO)."""
OUTCOMES: Mapping[str, str] = {
    Outcome.FINDINGS: "FINDINGS",
    Outcome.NO_FINDINGS: "NO FINDINGS",
    Outcome.PARTIAL: "PARTIAL",
    Outcome.INDETERMINATE: "INDETERMINATE",
    Outcome.MEASURED: "MEASURED",
    Outcome.NOT_APPLICABLE: "NOT ANALYSED",
    Outcome.FAILED: "NOT ANALYSED",
}
"""First words by outcome: why a series was not analysed is for the report. Of *derived* there is nothing to say."""
_FIRST_NUMBERED, _LAST_NUMBERED = 3, 89
_VERSIONS = 99
"""Versions that Series Numbers tell apart; later ones share the number of the last."""
_LARGEST = (2**31 - 1) // 10_000
"""Series Numbers beyond this leave no room for ours: IS holds 32 bits (PS3.5 6.2)."""


def series_description(analysis: Analysis, source: Source, what: str) -> str:
    """Outcome and version, pipeline, ``what`` kind of object this is; a long name of a pipeline is cut."""
    first, last = _first(analysis, OUTCOMES.get(analysis.outcome, "")), _last(analysis, source)
    tail = f" {plain(what)}{last}"
    return plain(f"{first}AI {analysis.title}", LONGEST - len(tail)) + tail


def derived_description(analysis: Analysis, source: Source, name: str) -> str:
    """Of new images and maps, which the pipeline names; of the outcome only that a part was analysed is said."""
    first, last = (
        _first(analysis, OUTCOMES[Outcome.PARTIAL] if analysis.outcome == Outcome.PARTIAL else ""),
        _last(analysis, source),
    )
    return plain(first + name, LONGEST - len(last)) + last


def _first(analysis: Analysis, outcome: str) -> str:
    """Return the distinguishing first 20 characters, which is what study lists show."""
    words = [outcome, f"v{analysis.version}" if analysis.version > 1 else ""]
    return f"{' '.join(filter(None, words))} - " if any(words) else ""


def _last(analysis: Analysis, source: Source) -> str:
    return f", {len(source.datasets)} images" if analysis.version > 1 else ""


def series_number(analysis: Analysis, source: Source, place: int) -> int:
    """Series Number next to the source's: its number times 10,000, plus 100 for each later version, plus ``place``.

    The objects of one analysis have places 1, 2 and 90 to 95; derived series and maps, which can be many, the others.
    """
    number = int(source.datasets[0].get("SeriesNumber") or 0)
    later = 100 * (min(analysis.version, _VERSIONS) - 1)
    return number * 10_000 + later + place if 0 < number < _LARGEST else 9000 + later + place


def numbered_place(count: int) -> int:
    """Place of the derived series or map that follows ``count`` others. Raises ``EncodeError`` when none is left."""
    if count > _LAST_NUMBERED - _FIRST_NUMBERED:
        raise EncodeError(
            f"Findings hold more than {count} derived series and maps; return at most that many for one series"
        )
    return _FIRST_NUMBERED + count

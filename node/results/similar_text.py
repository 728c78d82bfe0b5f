"""Similar earlier findings as lines of the PDF report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from node.translation import gettext
from node.wording import quantity


@dataclass(frozen=True, kw_only=True)
class SimilarEntry:
    """What the report says of a similar finding of another study: nothing that tells whose it is."""

    long_axis_mm: float | None
    seen_on: str
    """ISO date of its study, else of the analysis."""
    verdict: str
    """``""``: none."""
    later: tuple[tuple[str, float | None], ...]
    """The same lesion in later studies: ISO date and long axis in mm."""


@dataclass(frozen=True, kw_only=True)
class SimilarEntries:
    """Similar findings of one analysis."""

    by_label: Mapping[str, tuple[SimilarEntry, ...]]
    """By label of the lesion, the most similar first."""
    statement: tuple[str, Mapping[str, str]]
    """How precise they are: English, and translations by language."""


def similar_lines(entries: SimilarEntries, language: str) -> list[str]:
    """A heading, a line for each lesion with similar findings, and how precise that is, in the language spoken here."""
    lines = [
        gettext("{name}: {findings}", name=label, findings="; ".join(map(_text, similar_entries)))
        for label, similar_entries in entries.by_label.items()
        if similar_entries
    ]
    if not lines:
        return []
    statement, translations = entries.statement
    return [
        gettext(
            "Similar earlier findings in other studies of this site, the most similar first; they are no diagnosis."
        ),
        *lines,
        translations.get(language, statement),
    ]


def _text(entry: SimilarEntry) -> str:
    later = (gettext("later {size}", size=_size(day, axis)) for day, axis in entry.later)
    verdict = gettext(entry.verdict) if entry.verdict else gettext("no verdict")
    return ", ".join((_size(entry.seen_on, entry.long_axis_mm), verdict, *later))


def _size(day: str, long_axis_mm: float | None) -> str:
    return day if long_axis_mm is None else f"{quantity(long_axis_mm, 'mm')} ({day})"

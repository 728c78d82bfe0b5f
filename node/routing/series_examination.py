"""Examination of a series: everything that the router needs of its headers, as plain values.

``examine`` runs in a confined process, because headers are hostile ground; the router gets its answer only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset

from node.config import Rule
from node.config.order_values import OrderValues, are_urgent
from node.confined import bounded
from node.errors import InputError
from node.ledger import DecisionCause, DecisionOutcome
from node.ledger.order_keys import OrderKeys
from node.reasons import Reason, ReasonCode, reason
from node.result_parts import ResultReferences, references_of
from node.routing.completeness import missing_parts, stated_count
from node.routing.missing_positions import unseen
from node.routing.order_request import request_of
from node.routing.region import region_of
from node.routing.rules import Decision, Origin, SeriesHeader, decide, is_urgent, representative
from node.routing.series_selection import Weight, weigh
from node.studies.attribute_values import values_of
from node.studies.characteristics import Characteristics
from node.studies.grid import describe
from node.studies.header import read_header
from node.studies.identity import contradictions, outnumbered
from node.studies.pydicom_errors import UNREADABLE

FILE_SECONDS = 10.0
"""Of computing for one header. An Enhanced image of 5,000 frames takes 2 s."""
QUICK_SECONDS = 2.0
"""Of computing for a series in the presence of others: 2,000 headers."""
_NAMED = 3
"""Images of another identity that the reason names."""
_HEADERS = 5000
"""In memory, so that a series that is looked at several times is read once."""


@dataclass(frozen=True, kw_only=True)
class SeriesDecision:
    """What the rules say of one complete series."""

    decision: Decision
    weights: tuple[Weight, ...] = ()
    """What waits for the rest of the study."""
    urgent: bool = False
    """STAT by its headers."""
    ordered_urgent: bool = False
    """STAT or HIGH by an order."""
    cause: DecisionCause | None = None
    """What ignored it where no rule did."""
    characteristics: Characteristics | None = None
    """``None``: its headers were not read."""


@dataclass(frozen=True, kw_only=True)
class SeriesQuestion:
    """The series that is examined, and what is known of it without its files."""

    paths: tuple[Path, ...]
    origin: Origin
    absent_positions: tuple[tuple[float, float, float] | None, ...] = ()
    """Of images that are known to be missing, LPS mm; ``None`` where it is not known."""
    orders: tuple[OrderValues, ...] = ()
    """Of the information system, about this series."""
    seen: Characteristics = field(default_factory=dict)
    """What its pixels show; empty: they have not been read."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What the headers of a series say."""

    decision: SeriesDecision
    unreadable: tuple[str, ...] = ()
    """Why, of each file that cannot be read."""
    unseen: str = ""
    """See ``node.routing.completeness.Absent``."""
    stated: int | None = None
    """See ``node.routing.completeness.Arrival``, as the next."""
    missing: str = ""
    request: OrderKeys = field(default_factory=OrderKeys)
    """What its headers say of its order."""
    study_date: str = ""
    """Study Date (0008,0020), as it is stated."""
    references: frozenset[ResultReferences] = frozenset()
    """What its objects name, for results that come back; objects that name the same are one here."""


def examine(question: SeriesQuestion, rules: Sequence[Rule]) -> Examination:
    """Read the headers of a series, each once, and apply the rules; one broken file hides no other."""
    headers: list[Dataset] = []
    unreadable: list[str] = []
    for path in question.paths:
        header = _header(path)
        if isinstance(header, str):
            unreadable.append(header)
        else:
            headers.append(header)
    examination = Examination(
        decision=_decision(headers, rules, question, unreadable),
        unreadable=tuple(unreadable),
        unseen=unseen(headers, question.absent_positions),
    )
    try:
        first = representative(headers) if headers else None
        return replace(
            examination,
            stated=stated_count(headers),
            missing=_missing(headers),
            request=OrderKeys() if first is None else request_of(first),
            study_date="" if first is None else values_of(first, "StudyDate")[0],
            references=frozenset(map(references_of, headers)),
        )
    except UNREADABLE as error:
        return replace(examination, decision=_not_understood(error))


def examine_quickly(question: SeriesQuestion, rules: Sequence[Rule]) -> Examination | None:
    """``examine``, as long as it takes little computing and memory; ``None`` when it takes more.

    What was read until then is not read again.
    """
    try:
        with bounded("a series", QUICK_SECONDS):
            return examine(question, rules)
    except InputError:
        return None


@lru_cache(maxsize=_HEADERS)
def _header(path: Path) -> Dataset | str:
    """The header of a file, which never changes, or why it cannot be read."""
    try:
        with bounded(path.name, FILE_SECONDS):
            return read_header(path)
    except InputError as error:
        return str(error)


def _decision(
    headers: Sequence[Dataset], rules: Sequence[Rule], question: SeriesQuestion, unreadable: Sequence[str]
) -> SeriesDecision:
    if not headers:
        if unreadable:
            return ignored(reason(ReasonCode.NO_READABLE_FILE, explanation=unreadable[0]))
        return ignored(reason(ReasonCode.NO_FILES))
    try:
        if keywords := contradictions(headers):
            return _held(headers, keywords)
        series = SeriesHeader.of(headers, question.orders, question.seen)
        decision = decide(series, rules, question.origin)
        region = region_of(headers) if any(rule.prefer for rule in rules) else None
        weights = weigh(series, len(headers), region, decision, rules)
        return SeriesDecision(
            decision=decision,
            weights=tuple(weights),
            urgent=is_urgent(series.header),
            ordered_urgent=are_urgent(series.orders),
            characteristics=series.characteristics,
        )
    except UNREADABLE as error:
        return _not_understood(error)


def _missing(headers: Sequence[Dataset]) -> str:
    grid = describe(headers) if headers else None
    gap = grid.fault or grid.left_out if grid is not None and grid.gap else ""
    return "; ".join(filter(None, (gap, missing_parts(headers))))


def _held(headers: Sequence[Dataset], keywords: Sequence[str]) -> SeriesDecision:
    """Hold a series whose images contradict one another on identity."""
    others = outnumbered(headers, keywords)
    why = reason(
        ReasonCode.CONTRADICTION, keywords=list(keywords), others=others[:_NAMED], number=len(others), of=len(headers)
    )
    return SeriesDecision(decision=Decision(outcome=DecisionOutcome.HELD, reason=why, routes=(), trace=()))


def _not_understood(error: Exception) -> SeriesDecision:
    return ignored(reason(ReasonCode.HEADERS_NOT_UNDERSTOOD, error=type(error).__name__))


def ignored(why: Reason, cause: DecisionCause | None = None) -> SeriesDecision:
    """Return the decision that ignores a series."""
    return SeriesDecision(
        decision=Decision(outcome=DecisionOutcome.IGNORED, reason=why, routes=(), trace=()), cause=cause
    )

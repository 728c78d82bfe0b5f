"""Series selection: the best of several series of a study, and series that wait for companions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from pydicom import Dataset

from node.config import Rule
from node.config.routing import Preference
from node.reasons import Reason, ReasonCode, reason
from node.routing.region import Region, same_region
from node.routing.rules import Decision, SeriesHeader
from node.studies.attribute_values import values_of
from node.studies.grid import plane_name

Mark = tuple[float, Reason | str]
"""How well a series does by one preference: smaller is better; and what it is like."""
_SHARED = "SharedFunctionalGroupsSequence"
_UNKNOWN = 1e9
"""Mark of a value that the headers do not state; finite, because marks are kept as JSON."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A complete series that matches a rule, or a companion of a rule."""

    series_instance_uid: str
    generation: int
    companion: str
    """Name of the companion; ``""``: it matches the rule itself."""
    marks: tuple[Mark, ...]
    complete_at: float
    complete: bool
    """No further images have begun to arrive."""
    decided: bool
    chosen: bool = False
    """It was decided, and goes through the rule's pipelines."""
    region: Region | None = None
    """``None``: not known."""


@dataclass(frozen=True, kw_only=True)
class SelectionResult:
    """The result of series selection for one series."""

    series_instance_uid: str
    generation: int
    chosen: bool
    note: Reason | None
    """Why (not), for the trace."""
    companions: Mapping[str, str] = field(default_factory=dict)
    """Series Instance UID by name."""
    unsuitable: Reason | None = None
    """Why the outcome is *not applicable*: a required companion did not come."""
    chosen_before: tuple[str, ...] = ()
    """Series Instance UIDs of worse series of the region that were chosen before this one came."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """The rank of a series for a rule that needs the whole study, or for one of its companions."""

    rule: str
    companion: str
    """``""``: the series matches the rule itself."""
    marks: tuple[Mark, ...]
    region: Region | None = None


def weigh(
    series: SeriesHeader, images: int, region: Region | None, decision: Decision, rules: Sequence[Rule]
) -> list[Weight]:
    """What a decision leaves open for the study; ``images``: their number."""
    by_name = {rule.name: rule for rule in rules}
    weights = []
    for entry in decision.trace:
        rule, companion = by_name[entry["rule"]], entry.get("companion", "")
        if entry["matched"] and (companion or entry["chosen"] is None):
            prefer = rule.companions[companion].prefer if companion else rule.prefer
            own_marks = marks(prefer, series, images)
            weights.append(Weight(rule=rule.name, companion=companion, marks=own_marks, region=region))
    return weights


def marks(prefer: Sequence[Preference], series: SeriesHeader, images: int) -> tuple[Mark, ...]:
    """Marks of a series by every preference, and by what settles a tie: more images, a lower Series Number."""
    number = str(series.header.get("SeriesNumber") or "")
    series_number = (_number(series.header, "SeriesNumber"), reason(ReasonCode.SERIES_NUMBER, number=number))
    return (
        *(_mark(preference, series, images) for preference in prefer),
        _mark("most images", series, images),
        series_number,
    )


def settle(
    rule: Rule, candidates: Sequence[Candidate], *, ready: bool, at: float, because: Reason | None = None
) -> tuple[SelectionResult, ...]:
    """Decide the candidates of a study that match ``rule`` and are not decided; empty while the rule has to wait.

    Only series of the same region compete. ``ready``: no better series is expected; ``because``: why.
    """
    own = [c for c in candidates if not c.companion]
    open_ones = [c for c in own if not c.decided]
    best = _best_of_each_region(own)
    results = []
    for candidate in open_ones:
        overdue = bool(rule.companions) and at >= candidate.complete_at + rule.deadline_seconds
        others = {name: _companion(name, candidates, candidate) for name in rule.companions}
        missing = [name for name, other in others.items() if other is None]
        if not overdue and (missing or (rule.prefer and not ready)):
            continue
        if rule.prefer and candidate not in best:
            results.append(_refusal(candidate, _rival(candidate, best)))
            continue
        rivals = [c for c in own if same_region(c.region, candidate.region)]
        before = tuple(c.series_instance_uid for c in rivals if c.chosen and c is not candidate) if rule.prefer else ()
        results.append(
            SelectionResult(
                series_instance_uid=candidate.series_instance_uid,
                generation=candidate.generation,
                chosen=True,
                chosen_before=before,
                note=_note(rule, len(rivals), before, others, because),
                companions={name: other.series_instance_uid for name, other in others.items() if other is not None},
                unsuitable=_unsuitable(rule, missing),
            )
        )
    return tuple(results)


def _best_of_each_region(own: Sequence[Candidate]) -> list[Candidate]:
    best: list[Candidate] = []
    for candidate in sorted(own, key=_rank):
        if not any(same_region(candidate.region, better.region) for better in best):
            best.append(candidate)
    return best


def _rival(candidate: Candidate, best: Sequence[Candidate]) -> Candidate:
    return next(better for better in best if same_region(candidate.region, better.region))


def _companion(name: str, candidates: Sequence[Candidate], of: Candidate) -> Candidate | None:
    there = [
        c for c in candidates if c.companion == name and c.complete and c.series_instance_uid != of.series_instance_uid
    ]
    return min(there, key=_rank, default=None)


def _rank(candidate: Candidate) -> tuple[tuple[float, ...], str]:
    return tuple(number for number, _ in candidate.marks), candidate.series_instance_uid


def _unsuitable(rule: Rule, missing: Sequence[str]) -> Reason | None:
    required = [name for name in missing if rule.companions[name].required]
    if not required:
        return None
    return reason(ReasonCode.COMPANIONS_ABSENT, companions=required, seconds=rule.deadline_seconds)


def _refusal(candidate: Candidate, best: Candidate) -> SelectionResult:
    marks = ((b, o) for (number, b), (other, o) in zip(best.marks, candidate.marks, strict=False) if number != other)
    better, worse = next(marks, (reason(ReasonCode.LOWER_UID), reason(ReasonCode.HIGHER_UID)))
    return SelectionResult(
        series_instance_uid=candidate.series_instance_uid,
        generation=candidate.generation,
        chosen=False,
        note=reason(ReasonCode.WORSE, best=best.series_instance_uid, better=better, worse=worse),
    )


def _note(
    rule: Rule, rivals: int, before: Sequence[str], others: Mapping[str, Candidate | None], because: Reason | None
) -> Reason:
    return reason(
        ReasonCode.CHOSEN,
        series=rivals if rule.prefer else None,
        because=because,
        before=list(before) if rule.prefer else [],
        companions={name: other.series_instance_uid if other else None for name, other in others.items()},
        seconds=rule.deadline_seconds,
    )


def _mark(preference: Preference, series: SeriesHeader, images: int) -> Mark:
    if isinstance(preference, dict):
        preferred = series.matches(preference)
        code = ReasonCode.PREFERRED if preferred else ReasonCode.NOT_PREFERRED
        return (0 if preferred else 1, reason(code, attributes=list(preference)))
    if preference == "most images":
        return (-images, reason(ReasonCode.IMAGES, images=images))
    if preference == "thinnest":
        thickness = _number(series.header, "SliceThickness", f"{_SHARED}.PixelMeasuresSequence.SliceThickness")
        return (thickness, reason(ReasonCode.SLICE_THICKNESS, mm=thickness if thickness < _UNKNOWN else None))
    plane = _plane(series.header)
    return (0 if plane == preference else 1, reason(ReasonCode.PLANE, plane=plane))


def _plane(header: Dataset) -> str:
    for path in ("ImageOrientationPatient", f"{_SHARED}.PlaneOrientationSequence.ImageOrientationPatient"):
        try:
            cosines = [float(value) for value in values_of(header, path)]
        except ValueError:
            continue
        if len(cosines) == 6:
            return plane_name(cosines)
    return "unplaced"


def _number(header: Dataset, *paths: str) -> float:
    for path in paths:
        try:
            number = float(values_of(header, path)[0])
        except ValueError:
            continue
        if -inf < number < inf:
            return number
    return _UNKNOWN

"""Routing: which rules match a series, and the trace that tells why (not).

Matching follows PS3.4 C.2.2.2: single value, list, wildcard (``*`` any run, ``?`` one character) and range.
Case is ignored, because scanners do not agree on it. An attribute with several values matches when any of them does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from node.config import NUMBER_OR_RANGE, NUMERIC_VRS, Rule

PRIORITIES = {"high": 1, "medium": 2, "low": 3}
TIME_VRS = frozenset({"DA", "TM", "DT"})
_TIME_RANGE = re.compile(r"\s*([\d.:]*)\s*-\s*([\d.:]*)\s*")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One pipeline that a series goes through."""

    pipeline: str
    rule: str
    destinations: tuple[str, ...]
    priority: int
    """1 high, 2 medium, 3 low."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens to a series, why, and the trace of every condition that was looked at."""

    outcome: str
    """``routed`` or ``ignored``."""
    reason: str
    routes: tuple[Route, ...]
    trace: tuple[dict[str, Any], ...]
    """``{"rule", "pipelines", "matched", "conditions": [{"attribute", "wanted", "found", "matched"}]}`` per rule."""


def decide(header: Dataset, rules: Sequence[Rule]) -> Decision:
    """Route one complete series by the header of its first image. Every matching rule applies."""
    refused = _never_analysed(header)
    if refused:
        return Decision(outcome="ignored", reason=refused, routes=(), trace=())
    trace = tuple(_trace(header, rule) for rule in rules)
    matching = [rule for rule, entry in zip(rules, trace, strict=True) if entry["matched"]]
    routes: dict[str, Route] = {}
    for rule in matching:
        priority = 1 if is_urgent(header) else PRIORITIES[rule.priority]
        for pipeline in rule.pipelines:
            before = routes.get(pipeline)
            routes[pipeline] = Route(
                pipeline=pipeline,
                rule=before.rule if before else rule.name,
                destinations=tuple(dict.fromkeys((before.destinations if before else ()) + rule.destinations)),
                priority=min(priority, before.priority) if before else priority,
            )
    if not matching:
        return Decision(outcome="ignored", reason="no rule matches", routes=(), trace=trace)
    names = ", ".join(repr(rule.name) for rule in matching)
    return Decision(outcome="routed", reason=f"matches {names}", routes=tuple(routes.values()), trace=trace)


def is_urgent(header: Dataset) -> bool:
    """STAT by Scheduled Procedure Step Priority (0074,1200) or Requested Procedure Priority (0040,1003)."""
    return header.get("ScheduledProcedureStepPriority") == "HIGH" or str(
        header.get("RequestedProcedurePriority") or ""
    ).upper() in ("STAT", "HIGH")


def _never_analysed(header: Dataset) -> str:
    if "Rows" not in header:
        return "its objects are no images"
    image_type = [str(v).upper() for v in header.get("ImageType") or []]
    if "LOCALIZER" in image_type:
        return "it is a localizer (ImageType)"
    return ""


def _trace(header: Dataset, rule: Rule) -> dict[str, Any]:
    conditions = []
    for keyword, wanted in rule.match.items():
        found = _values(header.get(keyword))
        options = wanted if isinstance(wanted, list) else [wanted]
        matched = any(_matches(value, str(option), dictionary_VR(keyword)) for value in found for option in options)
        conditions.append({"attribute": keyword, "wanted": wanted, "found": found, "matched": matched})
    matched = all(c["matched"] for c in conditions)
    return {"rule": rule.name, "pipelines": list(rule.pipelines), "matched": matched, "conditions": conditions}


def _values(value: Any) -> list[str]:
    """The values of an attribute as text; one empty text when it is absent or empty, so that ``*`` matches it."""
    if value is None or value == "":
        return [""]
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return [str(value).strip()]
    return [str(v).strip() for v in value] or [""]


def _matches(value: str, option: str, vr: str) -> bool:
    if vr in NUMERIC_VRS:
        return _matches_number(value, option)
    if vr in TIME_VRS and (bounds := _TIME_RANGE.fullmatch(option)):
        low, high = bounds.groups()
        return value != "" and (not low or value >= low) and (not high or value[: len(high)] <= high)
    return fnmatchcase(value.casefold(), option.casefold().replace("[", "[[]"))


def _matches_number(value: str, option: str) -> bool:
    if option == "*":
        return True
    if not value:
        return False
    bounds = NUMBER_OR_RANGE.fullmatch(option)
    assert bounds is not None  # noqa: S101 - the configuration was refused otherwise
    low, dash, high = bounds.groups()
    try:
        number = float(value)
    except ValueError:
        return False  # what the scanner wrote is no number
    if dash is None:
        return number == float(low)
    return number >= float(low) and (high is None or number <= float(high))

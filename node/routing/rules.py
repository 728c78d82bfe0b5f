"""Rules: which ones match a series, with the trace that explains it. docs/rules.md describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any

from pydicom import Dataset

from node.addresses import plain_address
from node.config import FORWARD, Condition, Destination, Rule, Selection, is_in_hours, parse_condition
from node.config.characteristics import UNKNOWN
from node.config.order_values import FREE_TEXT, PREFIX, OrderValues, are_urgent, values_of_orders
from node.ledger import DecisionOutcome
from node.ledger.states import PRIORITIES, ShadowCause
from node.reasons import Reason, ReasonCode, reason
from node.studies.attribute_values import values_at, values_of
from node.studies.characteristics import Characteristics, characteristics_of
from node.studies.result_mark import result_mark

WITHHELD = "(not shown)"
"""Stands in traces for values that may tell who the patient is."""
_ONLY_BACK = reason(ReasonCode.ONLY_BACK)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where and when a series came from."""

    senders: tuple[tuple[str, str], ...] = ()
    """Calling AE title and address of each association that brought images; empty: not known."""
    received_at: datetime | None = None
    """Local time of its first image; ``None``: not known."""
    destinations: frozenset[str] = frozenset()
    """Names of the ``[destinations.NAME]`` whose AE title sent images of it: they have it."""

    @classmethod
    def of(cls, senders: Sequence[tuple[str, str]], first_at: float, destinations: Mapping[str, Destination]) -> Origin:
        """As the ledger has it; ``first_at`` in seconds since 1970 UTC; ``destinations``: all that are configured."""
        titles = {title.strip() for title, _ in senders}
        return cls(
            senders=tuple(senders),
            received_at=datetime.fromtimestamp(first_at, UTC).astimezone(),
            destinations=frozenset(name for name, peer in destinations.items() if peer.title.strip() in titles),
        )


@dataclass(frozen=True, kw_only=True)
class Route:
    """One pipeline that a series goes through, or ``FORWARD``."""

    pipeline: str
    rule: str
    destinations: tuple[str, ...]
    priority: int
    """1 high, 2 medium, 3 low."""
    shadow: ShadowCause | None = None
    """Why no destination receives its results."""
    after: str = ""
    """Pipeline whose result it needs."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision on a series, its reason, and the trace of every evaluated condition."""

    outcome: DecisionOutcome
    reason: Reason
    routes: tuple[Route, ...]
    trace: tuple[dict[str, Any], ...]
    """Per rule, and per companion of a rule, what ``trace_entry`` describes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesHeader:
    """What conditions are evaluated on."""

    header: Dataset
    """See ``representative``."""
    characteristics: Characteristics
    """Of the whole series."""
    orders: tuple[OrderValues, ...] = ()
    """Of the information system, about this series."""

    @classmethod
    def of(
        cls, headers: Sequence[Dataset], orders: tuple[OrderValues, ...] = (), seen: Characteristics | None = None
    ) -> SeriesHeader:
        """Return it for the headers of a series; ``seen``: what its pixels show. Raises one of ``UNREADABLE``."""
        characteristics = {**characteristics_of(headers), **(seen or {})}
        return cls(header=representative(headers), characteristics=characteristics, orders=orders)

    def values(self, condition: Condition) -> Sequence[str]:
        """Return the values of the attribute or characteristic of a condition."""
        if condition.path.startswith(PREFIX):
            return values_of_orders(condition.path, self.orders)
        if not condition.tags:
            known = self.characteristics.get(condition.path)
            return known.values if known is not None else (UNKNOWN,)
        return values_at(self.header, condition.tags)

    def matches(self, conditions: Mapping[str, Any]) -> bool:
        """Return whether every condition of a table holds."""
        parsed = (parse_condition(path, wanted) for path, wanted in conditions.items())
        return all(condition.matches(self.values(condition)) for condition in parsed)


def decide(series: SeriesHeader, rules: Sequence[Rule], origin: Origin) -> Decision:
    """Route one complete series. Every matching rule applies.

    A rule that looks at the whole study leaves its entry of the trace open (``chosen`` is ``None``); what becomes of it
    is for ``node.routing.series_selection``.
    """
    refused = _never_analysed(series.header)
    if refused:  # which does not keep it from being sent on
        rules = [rule.model_copy(update={"pipelines": (), "shadow": ()}) for rule in rules if rule.send]
        if not rules:
            return Decision(outcome=DecisionOutcome.IGNORED, reason=refused, routes=(), trace=())
    trace = []
    routes: dict[str, Route] = {}
    for rule in (_not_back(rule, origin) for rule in rules):
        entry = trace_entry(series, rule, origin)
        if entry["matched"] and not entry["pipelines"]:
            entry |= {"chosen": False, "note": _ONLY_BACK}
        trace.append(entry)
        if entry["chosen"]:
            for route in routes_of(rule, urgent=is_urgent_for(rule, series)):
                routes[route.pipeline] = merged(routes.get(route.pipeline), route)
        for name, companion in rule.companions.items():
            conditions = _conditions(series, companion)
            trace.append(
                {
                    "rule": rule.name,
                    "companion": name,
                    "pipelines": [*rule.pipelines, *rule.shadow],
                    "matched": all(c["matched"] for c in conditions),
                    "chosen": False,
                    "conditions": conditions,
                }
            )
    outcome, why = sum_up(trace)
    if refused:
        sent_on = outcome == DecisionOutcome.ROUTED
        why = reason(ReasonCode.SENT_ON_ONLY, routed=why, why=refused) if sent_on else refused
    return Decision(outcome=outcome, reason=why, routes=tuple(routes.values()), trace=tuple(trace))


def representative(headers: Sequence[Dataset]) -> Dataset:
    """The header by which a series is routed: of the first image that may be analysed.

    One localizer, or one result that a node made, does not keep the others from being analysed.
    """
    return next((header for header in headers if not _never_analysed(header)), headers[0])


def trace_entry(series: SeriesHeader, rule: Rule, origin: Origin) -> dict[str, Any]:
    """Return the trace entry of one rule for a series.

    ``{"rule", "pipelines", "matched", "chosen", "conditions": [{"attribute", "wanted", "found", "matched"}]}``, and
    ``"note"``, a reason, once something else decided. ``chosen``: ``True`` routed, ``False`` not, ``None`` as long as
    other series of the study are waited for. A condition of ``unless`` has ``"unless": True`` and is ``matched`` when
    it does not forbid the series.
    """
    conditions = [*_origin_conditions(rule, origin), *_conditions(series, rule)]
    matched = all(c["matched"] for c in conditions)
    chosen = None if matched and of_study(rule) else matched
    return {
        "rule": rule.name,
        "pipelines": [route.pipeline for route in routes_of(rule, urgent=False)],
        "matched": matched,
        "chosen": chosen,
        "conditions": conditions,
    }


def _not_back(rule: Rule, origin: Origin) -> Rule:
    """Drop destinations that sent the series, which prevents endless loops."""
    return rule.model_copy(update={"send": tuple(name for name in rule.send if name not in origin.destinations)})


def of_study(rule: Rule) -> bool:
    """Whether a rule needs to see the other series of the study."""
    return bool(rule.prefer or rule.companions)


def routes_of(rule: Rule, *, urgent: bool) -> list[Route]:
    """Return the routes of a matching rule; ``urgent``: the request was STAT."""
    priority = PRIORITIES["high" if urgent else rule.priority or "medium"]
    to = dict.fromkeys(rule.pipelines, rule.destinations) | ({FORWARD: rule.send} if rule.send else {})
    sent = [Route(pipeline=p, rule=rule.name, destinations=names, priority=priority) for p, names in to.items()]
    return sent + [
        Route(pipeline=p, rule=rule.name, destinations=rule.destinations, priority=priority, shadow=ShadowCause.TRIAL)
        for p in rule.shadow
    ]


def sum_up(trace: Sequence[Mapping[str, Any]]) -> tuple[DecisionOutcome, Reason]:
    """Outcome and reason of a decision by its trace."""
    matching = [entry for entry in trace if entry["matched"]]
    own = [entry for entry in matching if "companion" not in entry]
    if chosen := [entry["rule"] for entry in own if entry["chosen"]]:
        return DecisionOutcome.ROUTED, reason(ReasonCode.MATCHES, rules=chosen)
    if waiting := [entry["rule"] for entry in own if entry["chosen"] is None]:
        return DecisionOutcome.WAITING, reason(ReasonCode.WAITS_FOR_STUDY, rules=waiting)
    if own and not any(entry["pipelines"] for entry in own):
        return DecisionOutcome.IGNORED, _ONLY_BACK
    if own:
        return DecisionOutcome.IGNORED, reason(ReasonCode.ANOTHER_CHOSEN, rules=[entry["rule"] for entry in own])
    if matching:
        companions = [[entry["companion"], entry["rule"]] for entry in matching]
        return DecisionOutcome.IGNORED, reason(ReasonCode.ONLY_COMPANION, companions=companions)
    return DecisionOutcome.IGNORED, reason(ReasonCode.NO_RULE)


def is_urgent(header: Dataset) -> bool:
    """Return whether (0074,1200), (0040,1003), also of the request attributes, or (0032,000C) says STAT or HIGH."""
    keywords = ("ScheduledProcedureStepPriority", "RequestedProcedurePriority", "StudyPriorityID")
    paths = [*keywords, "RequestAttributesSequence.RequestedProcedurePriority"]
    return any(parse_condition(path, ("STAT", "HIGH")).matches(values_of(header, path)) for path in paths)


def is_urgent_for(rule: Rule, series: SeriesHeader) -> bool:
    """Whether what matches ``rule`` goes before others: STAT by its headers, or by an order unless the rule decides."""
    return is_urgent(series.header) or (rule.priority is None and are_urgent(series.orders))


def merged(before: Route | None, route: Route) -> Route:
    """A pipeline that two rules want runs once, for all destinations, with the higher priority."""
    if before is None:
        return route
    destinations = tuple(dict.fromkeys(before.destinations + route.destinations))
    return replace(before, destinations=destinations, priority=min(before.priority, route.priority))


def _never_analysed(header: Dataset) -> Reason | None:
    if mark := result_mark(header):
        return reason(ReasonCode.AI_RESULT, mark=mark)
    if "Rows" not in header:
        return reason(ReasonCode.NO_IMAGES)
    if "LOCALIZER" in (value.upper() for value in values_of(header, "ImageType")):
        return reason(ReasonCode.LOCALIZER)
    if str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
        return reason(ReasonCode.SECONDARY_CAPTURE)
    return None


def _conditions(series: SeriesHeader, selection: Selection) -> list[dict[str, Any]]:
    entries = []
    for table, forbids in ((selection.match, False), (selection.unless, True)):
        for path, wanted in table.items():
            condition = parse_condition(path, wanted)
            values = series.values(condition)
            entry = _entry(condition, values, holds=condition.matches(values), forbids=forbids)
            if path.startswith(PREFIX) and not any(values) and any(order.canceled for order in series.orders):
                entry["canceled"] = True
            entries.append(entry)
    return entries


def _entry(condition: Condition, values: Sequence[str], *, holds: bool, forbids: bool) -> dict[str, Any]:
    hidden = condition.identifies
    wanted = list(condition.wanted) if len(condition.wanted) > 1 else condition.wanted[0]
    return {
        "attribute": condition.path,
        "wanted": WITHHELD if hidden else wanted,
        "found": [WITHHELD] if hidden or (condition.path == FREE_TEXT and any(values)) else list(values),
        "matched": holds != forbids,
        **({"unless": True} if forbids else {}),
    }


def _origin_conditions(rule: Rule, origin: Origin) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    if rule.senders:
        matched = any(_is_sender(sender, *address) for sender in rule.senders for address in origin.senders)
        values = [f"{title} at {address}" for title, address in origin.senders]
        entries.append({"attribute": "senders", "wanted": list(rule.senders), "found": values, "matched": matched})
    if rule.hours:
        at = origin.received_at.time() if origin.received_at else None
        inside = at is not None and is_in_hours(rule.hours, at)
        values = [f"{at:%H:%M}"] if at else []
        entries.append({"attribute": "hours", "wanted": rule.hours, "found": values, "matched": inside})
    return entries


def _is_sender(wanted: str, title: str, address: str) -> bool:
    try:
        network = ip_network(wanted)
    except ValueError:  # then it is an AE title, and those are compared as they are (PS3.8 9.3.2)
        return fnmatchcase(title.strip(), wanted.strip().replace("[", "[[]"))
    try:
        return plain_address(address) in network
    except ValueError:
        return False

"""Decisions of the rules on a complete study, with every deadline passed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from pathlib import Path

from pydicom import Dataset

from node.config import Rule
from node.config.order_values import OrderValues
from node.confined import bounded
from node.errors import InputError
from node.routing.region import Region, region_of
from node.routing.rules import Decision, Origin, SeriesHeader, decide, is_urgent_for, merged, routes_of, sum_up
from node.routing.series_examination import FILE_SECONDS
from node.routing.series_selection import Candidate, settle, weigh
from node.studies.characteristics import Characteristics, characteristics_of
from node.studies.header import read_header


@dataclass(frozen=True, kw_only=True)
class StudySeries:
    """One complete series of a study."""

    series: SeriesHeader
    images: int
    origin: Origin
    region: Region | None = None
    """Where it lies in the patient; ``None``: not known."""


@dataclass(frozen=True, kw_only=True)
class SeriesFiles:
    """The files of one complete series of a study."""

    series_instance_uid: str
    paths: tuple[Path, ...]
    origin: Origin
    orders: tuple[OrderValues, ...] = ()
    seen: Characteristics = field(default_factory=dict)
    """What its pixels show; empty: they have not been read."""


def decide_files(study: Sequence[SeriesFiles], rules: Sequence[Rule]) -> dict[str, Decision]:
    """Decisions on the series of one study, by Series Instance UID, without those of which no file can be read.

    Every image is read only where a rule asks for the region or a characteristic of a series.
    """
    whole = any(rule.prefer or rule.asks_for_characteristics for rule in rules)
    readable = {}
    for series in study:
        headers = list(islice(_headers(series.paths), None if whole else 1))
        if headers:
            readable[series.series_instance_uid] = StudySeries(
                series=SeriesHeader.of(headers, series.orders, series.seen),
                images=len(series.paths),
                origin=series.origin,
                region=region_of(headers) if whole else None,
            )
    return decide_study(readable, rules)


def characteristics_of_files(paths: Sequence[Path]) -> Characteristics:
    """Return the characteristics of the series in these files, of those that can be read."""
    return characteristics_of(list(_headers(paths)))


def _headers(paths: Sequence[Path]) -> Iterator[Dataset]:
    for path in paths:
        try:
            with bounded(path.name, FILE_SECONDS):
                header = read_header(path)
        except InputError:
            continue
        yield header


def decide_study(study: Mapping[str, StudySeries], rules: Sequence[Rule]) -> dict[str, Decision]:
    """Decisions on the series of one study, by Series Instance UID. A route counts although a companion is missing."""
    decisions = {uid: decide(member.series, rules, member.origin) for uid, member in study.items()}
    for rule in rules:
        candidates = [
            Candidate(
                series_instance_uid=uid,
                generation=1,
                companion=weight.companion,
                marks=weight.marks,
                complete_at=0.0,
                complete=True,
                decided=False,
                region=weight.region,
            )
            for uid, member in study.items()
            for weight in weigh(member.series, member.images, member.region, decisions[uid], rules)
            if weight.rule == rule.name
        ]
        for result in settle(rule, candidates, ready=True, at=inf):
            uid = result.series_instance_uid
            trace = [
                {**entry, "chosen": result.chosen, "note": result.note}
                if entry["rule"] == rule.name and "companion" not in entry
                else entry
                for entry in decisions[uid].trace
            ]
            routes = {route.pipeline: route for route in decisions[uid].routes}
            for route in routes_of(rule, urgent=is_urgent_for(rule, study[uid].series)) if result.chosen else ():
                routes[route.pipeline] = merged(routes.get(route.pipeline), route)
            outcome, why = sum_up(trace)
            decisions[uid] = replace(
                decisions[uid], outcome=outcome, reason=why, routes=tuple(routes.values()), trace=tuple(trace)
            )
    return decisions

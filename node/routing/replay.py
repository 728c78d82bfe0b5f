"""Replay: applies other rules to past series. Headers are read from the spool; no pipeline runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from node.config import Config, Rule
from node.errors import InputError
from node.ledger.associations import senders_of
from node.ledger.decisions import ReplaySeries, decided_series, routes_taken, studies_since
from node.ledger.engine import snapshot
from node.ledger.instances import series_files
from node.routing.region import region_of
from node.routing.replay_decisions import StudySeries, decide_study
from node.routing.rules import Origin, representative
from node.spool import Spool
from node.studies.folder import Progress
from node.studies.header import read_header


@dataclass(frozen=True, kw_only=True)
class Change:
    """A series that would be routed differently."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    images: int
    before: dict[str, list[str]]
    """Destinations by pipeline, of the jobs that were made; empty: it was ignored."""
    before_reason: str
    after: dict[str, list[str]]
    """The same by the other rules."""
    after_reason: str
    trace: tuple[dict[str, Any], ...]
    """Of the other rules."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The answer of ``ainode rules replay``."""

    series: int
    """That were looked at."""
    changes: tuple[Change, ...]
    unreadable: tuple[str, ...]
    """Series Instance UIDs of which no file can be read any more."""


@dataclass(kw_only=True)
class _Study:
    series: list[ReplaySeries] = field(default_factory=list)
    pasts: dict[str, StudySeries] = field(default_factory=dict)


def replay(engine: Engine, spool: Spool, config: Config, since: float, progress: Progress) -> Replay:
    """Ask the rules of ``config`` about every study of which a series came after ``since`` and was decided on."""
    unreadable: list[str] = []
    changes: list[Change] = []
    looked_at = 0
    with snapshot(engine) as connection:
        uids = studies_since(connection, since)
        for number, study_uid in enumerate(uids):
            progress("studies", number, len(uids))
            study = _Study()
            for series in decided_series(connection, study_uid):
                past = _history(connection, spool, series, config)
                if past is None:
                    unreadable.append(series.series_instance_uid)
                else:
                    study.series.append(series)
                    study.pasts[series.series_instance_uid] = past
            looked_at += len(study.series)
            changes += _changes(connection, study, config.rules)
    return Replay(series=looked_at, changes=tuple(changes), unreadable=tuple(unreadable))


def _history(connection: Connection, spool: Spool, series: ReplaySeries, config: Config) -> StudySeries | None:
    """What is kept of a series; with its region, for which every image is read, where a rule asks for it."""
    whole = any(rule.prefer for rule in config.rules)
    key = (series.study_instance_uid, series.series_instance_uid)
    paths = [*series_files(connection, *key).values()]
    headers = []
    for path in paths:
        try:
            headers.append(read_header(Path(spool.absolute(path))))
        except InputError:
            continue
        if not whole:
            break
    if not headers:
        return None
    origin = Origin.of(senders_of(connection, *key), series.first_at, config.destinations)
    region = region_of(headers) if whole else None
    return StudySeries(header=representative(headers), images=len(paths), origin=origin, region=region)


def _changes(connection: Connection, study: _Study, rules: Sequence[Rule]) -> list[Change]:
    decisions = decide_study(study.pasts, rules)
    changes = []
    for series in study.series:
        taken = routes_taken(connection, series.study_instance_uid, series.series_instance_uid, series.generation)
        decision = decisions[series.series_instance_uid]
        before = {pipeline: sorted(destinations) for pipeline, destinations in taken.items()}
        after = {route.pipeline: sorted(route.destinations) for route in decision.routes}
        if before != after:
            changes.append(
                Change(
                    study_instance_uid=series.study_instance_uid,
                    series_instance_uid=series.series_instance_uid,
                    modality=series.modality,
                    images=series.instances,
                    before=before,
                    before_reason=series.reason,
                    after=after,
                    after_reason=decision.reason,
                    trace=decision.trace,
                )
            )
    return changes

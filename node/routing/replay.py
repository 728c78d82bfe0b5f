"""Replay: applies other rules to past series. Headers are read from the spool; no pipeline runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from node.config import Config
from node.confined import ConfinedProcess
from node.errors import InputError
from node.ledger.associations import senders_of
from node.ledger.decisions import ReplaySeries, decided_series, routes_taken, studies_since
from node.ledger.engine import snapshot
from node.ledger.instances import series_files
from node.ledger.orders import orders_of_series
from node.reasons import reason_text, trace_in_words
from node.routing.body_regions import BOUNDS
from node.routing.replay_decisions import SeriesFiles
from node.routing.replay_regions import Readers, decide_with_pixels, recorded_body_region
from node.routing.rules import Decision, Origin
from node.spool import Spool
from node.studies.folder import Progress


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


def replay(engine: Engine, spool: Spool, config: Config, since: float, progress: Progress) -> Replay:
    """Ask the rules of ``config`` about every study of which a series came after ``since`` and was decided on."""
    unreadable: list[str] = []
    changes: list[Change] = []
    looked_at = 0
    with (
        snapshot(engine) as connection,
        closing(ConfinedProcess("header reader", readable=spool.data_folders, decodes=False)) as headers,
        closing(ConfinedProcess("body region reader", readable=spool.data_folders, bounds=BOUNDS)) as pixels,
    ):
        readers = Readers(headers=headers, pixels=pixels)
        uids = studies_since(connection, since)
        for number, study_uid in enumerate(uids):
            progress("studies", number, len(uids))
            study = decided_series(connection, study_uid)
            files = [_files(connection, spool, series, config) for series in study]
            try:
                of_ct = {series.series_instance_uid for series in study if series.modality == "CT"}
                decisions, _ = decide_with_pixels(study_uid, files, config.rules, of_ct, readers)
            except InputError:
                decisions = {}
            unreadable += [
                series.series_instance_uid for series in study if series.series_instance_uid not in decisions
            ]
            readable = [series for series in study if series.series_instance_uid in decisions]
            looked_at += len(readable)
            changes += _changes(connection, readable, decisions)
    return Replay(series=looked_at, changes=tuple(changes), unreadable=tuple(unreadable))


def _files(connection: Connection, spool: Spool, series: ReplaySeries, config: Config) -> SeriesFiles:
    """What is kept of a series."""
    key = (series.study_instance_uid, series.series_instance_uid)
    return SeriesFiles(
        series_instance_uid=series.series_instance_uid,
        paths=spool.all_readable(series_files(connection, *key).values()),
        origin=Origin.of(senders_of(connection, *key), series.first_at, config.destinations),
        orders=orders_of_series(connection, *key).values,
        seen=recorded_body_region(series.characteristics),
    )


def _changes(connection: Connection, study: Sequence[ReplaySeries], decisions: Mapping[str, Decision]) -> list[Change]:
    changes = []
    for series in study:
        taken = routes_taken(connection, series.study_instance_uid, series.series_instance_uid, series.generation)
        decision = decisions[series.series_instance_uid]
        before = {pipeline: sorted(destinations) for pipeline, destinations in taken.items()}
        after = {r.pipeline: [] if r.shadow else sorted(r.destinations) for r in decision.routes}
        if before != after:
            changes.append(
                Change(
                    study_instance_uid=series.study_instance_uid,
                    series_instance_uid=series.series_instance_uid,
                    modality=series.modality,
                    images=series.instances,
                    before=before,
                    before_reason=reason_text(series.reason),
                    after=after,
                    after_reason=reason_text(decision.reason),
                    trace=tuple(trace_in_words(decision.trace)),
                )
            )
    return changes

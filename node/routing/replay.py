"""Replay: applies other rules to past series. Headers are read from the spool; no pipeline runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.config import Config, Rule
from node.errors import InputError
from node.ledger import DecisionOutcome
from node.ledger.engine import snapshot
from node.ledger.instances import senders_of
from node.ledger.tables import decision, instance, job, result, series
from node.routing.region import region_of
from node.routing.replay_decisions import StudySeries, decide_study
from node.routing.rules import Origin, representative
from node.spool import Spool
from node.studies.folder import Progress
from node.studies.source import read_header


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
    rows: list[sa.Row[Any]] = field(default_factory=list)
    pasts: dict[str, StudySeries] = field(default_factory=dict)


def replay(engine: sa.Engine, spool: Spool, config: Config, since: float, progress: Progress) -> Replay:
    """Ask the rules of ``config`` about every study of which a series came after ``since`` and was decided on."""
    unreadable: list[str] = []
    changes: list[Change] = []
    looked_at = 0
    with snapshot(engine) as connection:
        uids = connection.scalars(
            sa.select(series.c.study_instance_uid)
            .where(series.c.last_at >= since)
            .group_by(series.c.study_instance_uid)
            .order_by(sa.func.min(series.c.first_at))
        ).all()
        for number, study_uid in enumerate(uids):
            progress("studies", number, len(uids))
            study = _Study()
            for row in connection.execute(_decided(study_uid)):
                past = _history(connection, spool, row, config)
                if past is None:
                    unreadable.append(row.series_instance_uid)
                else:
                    study.rows.append(row)
                    study.pasts[row.series_instance_uid] = past
            looked_at += len(study.rows)
            changes += _changes(connection, study, config.rules)
    return Replay(series=looked_at, changes=tuple(changes), unreadable=tuple(unreadable))


def _decided(study_uid: str) -> sa.Select[Any]:
    """The series of a study with the decision on their last generation, without own results and what is held."""
    ours = sa.exists().where(result.c.series_instance_uid == series.c.series_instance_uid)
    latest = sa.and_(
        decision.c.study_instance_uid == series.c.study_instance_uid,
        decision.c.series_instance_uid == series.c.series_instance_uid,
        decision.c.generation == series.c.generation,
    )
    return (
        sa.select(series, decision.c.reason)
        .join(decision, latest)
        .where(
            series.c.study_instance_uid == study_uid,
            decision.c.outcome.not_in((DecisionOutcome.WAITING, DecisionOutcome.HELD)),
            ~ours,
        )
        .order_by(series.c.first_at)
    )


def _history(connection: sa.Connection, spool: Spool, row: sa.Row[Any], config: Config) -> StudySeries | None:
    """What is kept of a series; with its region, for which every image is read, where a rule asks for it."""
    whole = any(rule.prefer for rule in config.rules)
    belongs = (
        instance.c.study_instance_uid == row.study_instance_uid,
        instance.c.series_instance_uid == row.series_instance_uid,
    )
    paths = connection.scalars(sa.select(instance.c.path).where(*belongs).order_by(instance.c.received_at)).all()
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
    senders = senders_of(connection, row.study_instance_uid, row.series_instance_uid)
    origin = Origin.of(senders, row.first_at, config.destinations)
    region = region_of(headers) if whole else None
    return StudySeries(header=representative(headers), images=len(paths), origin=origin, region=region)


def _changes(connection: sa.Connection, study: _Study, rules: Sequence[Rule]) -> list[Change]:
    decisions = decide_study(study.pasts, rules)
    changes = []
    for row in study.rows:
        jobs = connection.execute(
            sa.select(job.c.pipeline, job.c.destinations).where(
                job.c.study_instance_uid == row.study_instance_uid,
                job.c.series_instance_uid == row.series_instance_uid,
                job.c.generation == row.generation,
            )
        )
        verdict = decisions[row.series_instance_uid]
        before = {one.pipeline: sorted(one.destinations) for one in jobs}
        after = {route.pipeline: sorted(route.destinations) for route in verdict.routes}
        if before != after:
            changes.append(
                Change(
                    study_instance_uid=row.study_instance_uid,
                    series_instance_uid=row.series_instance_uid,
                    modality=row.modality,
                    images=row.instances,
                    before=before,
                    before_reason=row.reason,
                    after=after,
                    after_reason=verdict.reason,
                    trace=verdict.trace,
                )
            )
    return changes

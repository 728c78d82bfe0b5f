"""The rows that the account is made of, all of one moment, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.ledger.conflicts import Outdated, outdated_deliveries
from node.ledger.corrections import HalfCorrected, half_corrected
from node.ledger.engine import now, snapshot
from node.ledger.held_series import Held, held
from node.ledger.jobs import Job, list_jobs, stuck_jobs
from node.ledger.pending_deliveries import DeliveryStatus, all_deliveries
from node.ledger.tables import conflict, decision, delivery_instance, instance, original, result, series
from node.ledger.undecided import Undecided, undecided_series
from node.operate.account.refusals import Refusals, refusals
from node.spool import Spool

QUEUE_MINUTES = 60.0
"""The default of ``[notify] queue_minutes``."""
ROWLESS_SECONDS = 60.0
"""A received image without a row for this long is a problem; most rows follow within a second."""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What was decided on one generation of a series."""

    outcome: str
    reason: str
    pipelines: tuple[str, ...]
    """Of the rules that routed it."""
    cause: str = ""
    """See ``ledger.tables.decision``."""


@dataclass(frozen=True, kw_only=True)
class ReceivedSeries:
    """A series with what was decided on it."""

    study_instance_uid: str
    series_instance_uid: str
    state: str
    generation: int
    first_at: float
    counted: int
    """Images as its row counts them."""
    instances: int
    """Images that have a row."""
    rulings: Mapping[int, Ruling]
    """By generation."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A result object."""

    job_id: str
    sop_instance_uid: str
    description: str
    quarantine: str | None
    kind: str | None


@dataclass(frozen=True, kw_only=True)
class Stray:
    """Images that name a series, or answers that name an object, of which there is no row."""

    of: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """An instance that came again with other content."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    path: str
    kind: str | None
    """identity, encoding, content; ``None``: not compared yet."""
    changed: str | None
    """Keywords of what differs."""


@dataclass(frozen=True, kw_only=True)
class AccountRows:
    """The ledger as the account needs it."""

    series: tuple[ReceivedSeries, ...]
    jobs: tuple[Job, ...]
    results: tuple[Made, ...]
    deliveries: tuple[DeliveryStatus, ...]
    conflicts: tuple[Conflict, ...]
    outdated: tuple[Outdated, ...]
    """Results sent for images that came again with another identity."""
    half_corrected: tuple[HalfCorrected, ...]
    """Series of which only some images did; they wait for people."""
    held: tuple[Held, ...]
    """Series and jobs whose images contradict one another on whose they are."""
    strays: tuple[Stray, ...]
    refused: tuple[Refusals, ...]
    """Images that were sent and not taken."""
    stuck: tuple[Job, ...]
    """Jobs that have made no progress for too long, whatever was tried; none that an operator holds up."""
    undecided: tuple[Undecided, ...]
    """Series that wait for nothing, and have not been decided on for too long."""
    rowless: int
    """Received images that should have a row by now."""

    def between(self, start: float, end: float) -> AccountRows:
        """Of the series whose first image came in [``start``, ``end``): every series belongs to one day."""
        chosen = tuple(s for s in self.series if start <= s.first_at < end)
        keys = {(s.study_instance_uid, s.series_instance_uid) for s in chosen}
        jobs = tuple(j for j in self.jobs if (j.study_instance_uid, j.series_instance_uid) in keys)
        ids = {j.id for j in jobs}
        known = {(s.study_instance_uid, s.series_instance_uid) for s in self.series}
        return replace(
            self,
            series=chosen,
            jobs=jobs,
            results=tuple(r for r in self.results if r.job_id in ids),
            deliveries=tuple(d for d in self.deliveries if d.job_id in ids),
            conflicts=tuple(c for c in self.conflicts if (c.study_instance_uid, c.series_instance_uid) in keys),
            outdated=tuple(o for o in self.outdated if o.job_id in ids),
            half_corrected=tuple(h for h in self.half_corrected if h.job_id in ids),
            held=tuple(h for h in self.held if (h.study_instance_uid, h.series_instance_uid) in keys),
            refused=tuple(
                r
                for r in self.refused
                if ((r.study_instance_uid, r.series_instance_uid) in keys)
                or (start <= r.at < end and (r.study_instance_uid, r.series_instance_uid) not in known)
            ),
            stuck=tuple(j for j in self.stuck if j.id in ids),
            undecided=tuple(u for u in self.undecided if (u.study_instance_uid, u.series_instance_uid) in keys),
        )


def read(engine: sa.Engine, spool: Spool | None = None, *, queue_minutes: float = QUEUE_MINUTES) -> AccountRows:
    """All of it; images are counted by the database, everything else is a few rows per series.

    ``spool``: where received images without a row are looked for. A job without progress, or a series
    without a decision, for ``queue_minutes`` is stuck.
    """
    with snapshot(engine) as connection:
        made = sa.select(*result.c[tuple(Made.__dataclass_fields__)]).order_by(result.c.created_at)
        again = sa.select(*conflict.c[tuple(Conflict.__dataclass_fields__)]).order_by(conflict.c.received_at)
        return AccountRows(
            series=_series(connection),
            jobs=tuple(list_jobs(connection, limit=None)),
            results=tuple(Made(**row) for row in connection.execute(made).mappings()),
            deliveries=tuple(all_deliveries(connection)),
            conflicts=tuple(Conflict(**row) for row in connection.execute(again).mappings()),
            outdated=tuple(outdated_deliveries(connection)),
            half_corrected=tuple(half_corrected(connection)),
            held=tuple(held(connection)),
            strays=_strays(connection),
            refused=tuple(refusals(connection)),
            stuck=tuple(stuck_jobs(connection, now() - queue_minutes * 60)),
            undecided=tuple(undecided_series(connection, now() - queue_minutes * 60)),
            rowless=spool.without_row(ROWLESS_SECONDS) if spool is not None else 0,
        )


def _series(connection: sa.Connection) -> tuple[ReceivedSeries, ...]:
    rulings: dict[tuple[str, str], dict[int, Ruling]] = {}
    for row in connection.execute(sa.select(decision)):
        # A trace of an older version has no "chosen": there, whatever matched was routed.
        chosen = [name for e in row.trace if e.get("chosen", e["matched"]) for name in e["pipelines"]]
        ruling = Ruling(
            outcome=row.outcome, reason=row.reason, pipelines=tuple(dict.fromkeys(chosen)), cause=row.cause or ""
        )
        rulings.setdefault((row.study_instance_uid, row.series_instance_uid), {})[row.generation] = ruling
    key = ("study_instance_uid", "series_instance_uid")
    found = sa.select(*instance.c[key], sa.func.count().label("n")).group_by(*instance.c[key]).subquery()
    rows = connection.execute(
        sa.select(series, sa.func.coalesce(found.c.n, 0).label("found"))
        .outerjoin(found, sa.and_(*(series.c[name] == found.c[name] for name in key)))
        .order_by(series.c.first_at)
    )
    return tuple(
        ReceivedSeries(
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            state=row.state,
            generation=row.generation,
            first_at=row.first_at,
            counted=row.instances,
            instances=row.found,
            rulings=rulings.get((row.study_instance_uid, row.series_instance_uid), {}),
        )
        for row in rows
    )


def _strays(connection: sa.Connection) -> tuple[Stray, ...]:
    of_series = sa.and_(
        series.c.study_instance_uid == instance.c.study_instance_uid,
        series.c.series_instance_uid == instance.c.series_instance_uid,
    )
    images = (
        sa.select(instance.c.study_instance_uid, instance.c.series_instance_uid, sa.func.count().label("n"))
        .where(~sa.exists().where(of_series))
        .group_by(instance.c.study_instance_uid, instance.c.series_instance_uid)
    )
    of_result = sa.and_(
        result.c.job_id == delivery_instance.c.job_id,
        result.c.sop_instance_uid == delivery_instance.c.sop_instance_uid,
    )
    of_original = sa.and_(
        original.c.job_id == delivery_instance.c.job_id,
        original.c.sop_instance_uid == delivery_instance.c.sop_instance_uid,
    )
    answers = (
        sa.select(delivery_instance.c.job_id, delivery_instance.c.destination, sa.func.count().label("n"))
        .where(~sa.exists().where(of_result), ~sa.exists().where(of_original))
        .group_by(delivery_instance.c.job_id, delivery_instance.c.destination)
    )
    return (
        *(
            Stray(of=f"images of series {row.series_instance_uid}, study {row.study_instance_uid}", rows=row.n)
            for row in connection.execute(images)
        ),
        *(
            Stray(of=f"answers of {row.destination} to results of job {row.job_id}", rows=row.n)
            for row in connection.execute(answers)
        ),
    )

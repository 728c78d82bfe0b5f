"""What is wrong now, each with a name that stays the same while it lasts. UIDs of jobs yes, patients never."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from node.ledger import DecisionCause
from node.ledger.circuits import circuits
from node.ledger.held_series import held
from node.ledger.jobs import PROGRESS
from node.ledger.operator_switches import latest_facts
from node.ledger.tables import decision, delivery, job, series, stopped
from node.ledger.undecided import undecided_series
from node.operate.account.report import tell_held
from node.operate.account.rows import ROWLESS_SECONDS
from node.operate.drift import BEFORE, drift
from node.operate.explain import clock
from node.operate.status import by_role
from node.spool import Spool

_OPEN = ("SCHEDULED", "IN PROGRESS")


def problems(config: Config, connection: sa.Connection, spool: Spool, at: float) -> dict[str, str]:
    """Name -> sentence. ``at``: now, in seconds since 1970 UTC."""
    wanted, found = config.notify, {}
    for row in _stuck(connection, at - wanted.queue_minutes * 60):
        since = clock(row.oldest)
        found[f"queue {row.stage}"] = f"{row.n} jobs wait in stage {row.stage}; the oldest has not moved since {since}"
    found |= _undecided(connection, at - wanted.queue_minutes * 60)
    for row in _failed(connection, at - wanted.failed_hours * 3600) if wanted.failed_hours else ():
        found[f"failed {row.pipeline}"] = f"{row.n} jobs of pipeline {row.pipeline} failed since {clock(row.oldest)}"
    found |= _discontinued(connection, at - wanted.failed_hours * 3600)
    for one in circuits(connection):
        if one.opened_at is not None and not one.paused:
            waiting = _waiting(connection, one.destination)
            found[f"destination {one.destination}"] = (
                f"destination {one.destination} is down since {clock(one.opened_at)}, "
                f"{waiting} deliveries wait: {one.error}"
            )
    found |= {f"identity {one.job_id or one.series_instance_uid}": tell_held(one) for one in held(connection)}
    drifted = {name: drift_of(connection, name, wanted.drift_analyses) for name in config.pipelines}
    found |= {
        f"drift {name}": f"what pipeline {name} gets or finds has changed. {'; '.join(changed)}"
        for name, changed in drifted.items()
        if changed
    }
    free, least = spool.free_gib(), config.storage.min_free_gib
    if free < least * wanted.disk_factor:
        found["disk"] = f"{free:.1f} GiB are free; images are refused below {least:g} GiB"
    if rowless := spool.without_row(ROWLESS_SECONDS):
        found["rows"] = (
            f"{rowless} received images have no row in the ledger and are not analysed; the receiver's log says why"
        )
    last = connection.scalar(sa.select(sa.func.max(series.c.last_at)))
    if wanted.silence_hours and last is not None and last < at - wanted.silence_hours * 3600:
        found["silence"] = f"no image came since {clock(last)}"
    roles = by_role(connection)
    for role in ("worker", "sender"):
        if not roles.get(role) and _any_open(connection):
            found[f"no {role}"] = f"no {role} is alive, and jobs wait"
    return found


def drift_of(connection: sa.Connection, pipeline: str, latest: int) -> list[str]:
    """How the ``latest`` analyses of a pipeline differ from those before; nothing for 0."""
    return drift(latest_facts(connection, pipeline, latest * (BEFORE + 1)), latest) if latest else []


def _stuck(connection: sa.Connection, before: float) -> list[sa.Row[tuple[str, int, float]]]:
    held = job.c.pipeline.in_(sa.select(stopped.c.pipeline))
    query = sa.select(job.c.stage, sa.func.count().label("n"), sa.func.min(PROGRESS).label("oldest"))
    query = query.where(job.c.state.in_(_OPEN), before > PROGRESS, ~held).group_by(job.c.stage)
    return list(connection.execute(query).all())


def _undecided(connection: sa.Connection, before: float) -> dict[str, str]:
    waiting = undecided_series(connection, before)
    if not waiting:
        return {}
    since = clock(waiting[0].last_at)
    return {"router": f"{len(waiting)} series have no decision, the oldest since {since}; the router's log says why"}


def _failed(connection: sa.Connection, since: float) -> list[sa.Row[tuple[str, int, float]]]:
    query = sa.select(job.c.pipeline, sa.func.count().label("n"), sa.func.min(job.c.updated_at).label("oldest"))
    query = query.where(job.c.outcome == "failed", job.c.updated_at >= since).group_by(job.c.pipeline)
    return list(connection.execute(query).all())


def _discontinued(connection: sa.Connection, since: float) -> dict[str, str]:
    query = sa.select(sa.func.count().label("n"), sa.func.min(decision.c.decided_at).label("oldest"))
    row = connection.execute(
        query.where(decision.c.cause == DecisionCause.DISCONTINUED, decision.c.decided_at >= since)
    ).one()
    sentence = (
        f"{row.n} series were ignored, or their analysis stopped, since {clock(row.oldest)} because their procedure "
        "step was discontinued (MPPS); `ainode account` names their studies"
    )
    return {"discontinued": sentence} if row.n else {}


def _waiting(connection: sa.Connection, destination: str) -> int:
    where = sa.and_(delivery.c.destination == destination, delivery.c.state.in_(_OPEN))
    return connection.scalar(sa.select(sa.func.count()).select_from(delivery).where(where)) or 0


def _any_open(connection: sa.Connection) -> bool:
    return connection.scalar(sa.select(job.c.id).where(job.c.state.in_(_OPEN)).limit(1)) is not None

"""The list of studies with their progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger import WithoutAnalysis
from node.ledger.tables import conflict, decision, delivery, job, result, series

STAGES = {
    "receiving": "images arrive, or the quiet period runs",
    "waiting": "a rule waits for other series of the study",
    "queued": "waits for a worker",
    "running": "the pipeline computes",
    "encoding": "DICOM objects are made and checked",
    "delivering": "objects are sent, or proof is awaited",
    "stored": "every destination has stored everything",
    "confirmed": "every destination has committed to keep it",
    "kept": "finished; nobody is owed anything",
    "held": "images contradict one another on whose they are; an operator must see to it",
    "ignored": "no rule wanted it",
    "cancelled": "stopped by an operator or given up",
    "failed": "all attempts failed",
}
"""In the order of the walk, with what each means."""
ACTIVE = ("receiving", "waiting", "queued", "running", "encoding", "delivering")
_LOOKED_AT = 500
"""Latest studies among which stages are counted."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One job in one line."""

    job_id: str
    pipeline: str
    stage: str
    outcome: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study in one line."""

    uid: str
    first_at: float
    last_at: float
    modalities: str
    series: int
    images: int
    stage: str
    work: tuple[Work, ...]
    conflicts: int
    quarantined: int


def stage_of_job(row: Mapping[str, Any], deliveries: Sequence[str]) -> str:
    """Where a job is, of its row and the states of its deliveries."""
    state, stage, outcome = row["state"], row["stage"], row["outcome"]
    if state == "CANCELED":
        return WithoutAnalysis.HELD if outcome == WithoutAnalysis.HELD else "cancelled"
    if state == "COMPLETED":
        if outcome == "failed":
            return "failed"
        return "kept" if not deliveries else "confirmed" if set(deliveries) == {"CONFIRMED"} else "stored"
    if stage == "infer":
        return "running" if state == "IN PROGRESS" and row["next_at"] is None else "queued"
    return "encoding" if stage == "encode" else "delivering"


def stage_of_study(stages: Sequence[str]) -> str:
    """Return the stage of a study: the least advanced one, otherwise a failure, otherwise the lowest reached."""
    for stage in (*ACTIVE, WithoutAnalysis.HELD, "failed", "cancelled", "stored", "confirmed", "kept"):
        if stage in stages:
            return stage
    return "ignored"


def latest(connection: sa.Connection, text: str = "") -> list[Study]:
    """The latest studies, newest first; only those whose UID (or the UID of a series, or a job id) holds ``text``."""
    last = sa.func.max(series.c.last_at).label("last_at")
    query = (
        sa.select(
            series.c.study_instance_uid,
            sa.func.count().label("series"),
            sa.func.sum(series.c.instances).label("images"),
            sa.func.min(series.c.first_at).label("first_at"),
            last,
        )
        .group_by(series.c.study_instance_uid)
        .order_by(last.desc())
        .limit(_LOOKED_AT)
    )
    if text:
        like = f"%{text.replace('%', '').replace('_', '')}%"
        named = sa.union(
            sa.select(series.c.study_instance_uid).where(
                series.c.study_instance_uid.like(like) | series.c.series_instance_uid.like(like)
            ),
            sa.select(job.c.study_instance_uid).where(job.c.id.like(like)),
        )
        query = query.where(series.c.study_instance_uid.in_(named))
    rows = connection.execute(query).all()
    uids = [row.study_instance_uid for row in rows]
    parts = _by_study(connection, series, uids)
    decisions = {
        (d["study_instance_uid"], d["series_instance_uid"]): d["outcome"]
        for found in _by_study(connection, decision, uids, "generation").values()
        for d in found
    }
    jobs = _by_study(connection, job, uids, "created_at")
    conflicts = _by_study(connection, conflict, uids)
    ids = [j["id"] for found in jobs.values() for j in found]
    deliveries: dict[str, list[str]] = {}
    for row in connection.execute(sa.select(delivery.c.job_id, delivery.c.state).where(delivery.c.job_id.in_(ids))):
        deliveries.setdefault(row.job_id, []).append(row.state)
    held = sa.select(result.c.job_id).where(result.c.job_id.in_(ids), result.c.quarantine.is_not(None))
    quarantined = list(connection.scalars(held))
    studies = []
    for row in rows:
        uid = row.study_instance_uid
        work = tuple(
            Work(
                job_id=j["id"],
                pipeline=j["pipeline"],
                stage=stage_of_job(j, deliveries.get(j["id"], [])),
                outcome=j["outcome"] or "",
                error=j["error"] or "",
            )
            for j in jobs.get(uid, [])
        )
        stages = [w.stage for w in work]
        for one in parts[uid]:
            routed = decisions.get((uid, one["series_instance_uid"]))
            stages.append("receiving" if one["state"] != "COMPLETE" else routed or "receiving")
        studies.append(
            Study(
                uid=uid,
                first_at=row.first_at,
                last_at=row.last_at,
                modalities=", ".join(sorted({p["modality"] or "?" for p in parts[uid]})),
                series=row.series,
                images=int(row.images),
                stage=stage_of_study(stages),
                work=work,
                conflicts=len(conflicts.get(uid, [])),
                quarantined=sum(quarantined.count(w.job_id) for w in work),
            )
        )
    return studies


def _by_study(
    connection: sa.Connection, table: sa.Table, uids: Sequence[str], order: str = ""
) -> dict[str, list[dict[str, Any]]]:
    query = sa.select(table).where(table.c.study_instance_uid.in_(uids))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(query.order_by(table.c[order]) if order else query).mappings():
        found.setdefault(str(row["study_instance_uid"]), []).append(dict(row))
    return found

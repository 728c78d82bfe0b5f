"""Delivered results whose place another result has taken, and the notes that withdraw them, by destination.

What a destination holds of earlier generations is read from their deliveries. What it holds of an earlier run of the
same job is recorded here before the job is purged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.deliveries import set_kinds
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_event
from node.ledger.jobs import REJECTION, Job
from node.ledger.pending_deliveries import HELD, kinds_of
from node.ledger.tables import delivery_instance, job, replaced, result
from node.reasons import Reason


def note_kind(destination: str) -> str:
    """Kind of the note that withdraws replaced results from one destination."""
    return f"{REJECTION} {destination}"


def remember_delivered(connection: sa.Connection, job_id: str) -> None:
    """Write down which results of a job each destination holds: it is about to make others.

    Where a retraction has withdrawn them, no further note is owed.
    """
    rows = connection.execute(
        sa.select(delivery_instance.c.destination, *result.c["sop_instance_uid", "job_id", "path"])
        .join(result, _is_result)
        .where(delivery_instance.c.job_id == job_id, HELD, ~_is_note)
    ).mappings()
    for row in rows.all():
        insert_new(connection, replaced, [dict(row)])
    retracted_at = (
        sa.select(delivery_instance.c.destination)
        .join(result, _is_result)
        .where(delivery_instance.c.job_id == job_id, HELD, result.c.kind == REJECTION)
    )
    of_job = (replaced.c.job_id == job_id, replaced.c.note_uid.is_(None))
    connection.execute(
        sa.update(replaced).where(*of_job, replaced.c.destination.in_(retracted_at)).values(note_uid=_GIVEN_UP)
    )


def to_withdraw(connection: sa.Connection, of: Job, destination: str) -> dict[str, str]:
    """Path by SOP Instance UID of what a destination holds, that a job has replaced and that no note withdraws yet."""
    there = sa.and_(delivery_instance.c.destination == destination, HELD)
    earlier = (
        sa.select(*result.c["sop_instance_uid", "path"])
        .join(job, job.c.id == result.c.job_id)
        .join(delivery_instance, _is_result)
        .where(
            job.c.study_instance_uid == of.study_instance_uid,
            job.c.series_instance_uid == of.series_instance_uid,
            job.c.pipeline == of.pipeline,
            job.c.generation < of.generation,
            ~_is_note,
            there,
        )
    )
    own = sa.select(*replaced.c["sop_instance_uid", "path"]).where(
        replaced.c.job_id == of.id,
        replaced.c.destination == destination,
        replaced.c.sop_instance_uid.not_in(sa.select(result.c.sop_instance_uid).where(result.c.job_id == of.id)),
    )
    withdrawn = set(
        connection.scalars(
            sa.select(replaced.c.sop_instance_uid)
            .join(delivery_instance, delivery_instance.c.sop_instance_uid == replaced.c.note_uid)
            .where(replaced.c.destination == destination, there)
        )
    )
    given_up = set(
        connection.scalars(
            sa.select(replaced.c.sop_instance_uid).where(
                replaced.c.destination == destination, replaced.c.job_id == of.id, replaced.c.note_uid == _GIVEN_UP
            )
        )
    )
    rows = connection.execute(sa.union(earlier, own)).all()
    return {row.sop_instance_uid: row.path for row in rows if row.sop_instance_uid not in withdrawn | given_up}


def schedule_note(
    connection: sa.Connection, of: Job, destination: str, note: dict[str, object], paths: Mapping[str, str]
) -> None:
    """Owe a destination the note that withdraws these results, as one more object of the job that replaces them."""
    if not insert_new(connection, result, [{**note, "created_at": ledger_clock(connection)}]):
        return
    _mark(connection, of.id, destination, paths, str(note["sop_instance_uid"]))
    _set_kinds(connection, of.id, destination, lambda kinds: kinds | {note_kind(destination)})
    record_event(connection, of.id, EventKind.RESULTS_WITHDRAWN, destination=destination, objects=len(paths))


def give_up_note(connection: sa.Connection, of: Job, destination: str, paths: Mapping[str, str], why: Reason) -> None:
    """Owe no note on these results: what the job has replaced there stays as it is."""
    kind = note_kind(destination)
    connection.execute(sa.delete(result).where(result.c.job_id == of.id, result.c.kind == kind))
    _mark(connection, of.id, destination, paths, _GIVEN_UP)
    _set_kinds(connection, of.id, destination, lambda kinds: kinds - {kind})
    record_event(connection, of.id, EventKind.RESULTS_NOT_WITHDRAWN, destination=destination, reason=why)


def _mark(connection: sa.Connection, job_id: str, destination: str, paths: Mapping[str, str], note_uid: str) -> None:
    for uid, path in paths.items():
        key = {"destination": destination, "sop_instance_uid": uid}
        insert_new(connection, replaced, [{**key, "job_id": job_id, "path": path}])
        which = sa.and_(*(replaced.c[name] == value for name, value in key.items()))
        connection.execute(sa.update(replaced).where(which).values(job_id=job_id, note_uid=note_uid))


_GIVEN_UP = ""
"""In the place of the note's UID: the destination does not take such a note of this job."""
_is_result = sa.and_(
    delivery_instance.c.job_id == result.c.job_id,
    delivery_instance.c.sop_instance_uid == result.c.sop_instance_uid,
)
_is_note = sa.func.coalesce(result.c.kind, "").startswith(REJECTION)


def _set_kinds(
    connection: sa.Connection, job_id: str, destination: str, change: Callable[[set[str]], set[str]]
) -> None:
    kinds = kinds_of(connection, job_id).get(destination)
    if kinds is not None:  # else a note is sent as any other kind is
        set_kinds(connection, job_id, destination, change(kinds))

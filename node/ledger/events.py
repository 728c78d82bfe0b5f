"""The timeline of a study: rows of ``event``. They are data; `node.operate.event_text` puts them into words."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.tables import event, job


class EventKind(StrEnum):
    """What happened. Values are stored: a kind may be added, but none is renamed."""

    RECEIVING = "receiving"
    LATE_IMAGES = "late images"
    FILE_REPLACED = "file replaced"
    CONFLICT = "conflict"
    IMAGES_CHANGED = "images changed"
    IDENTITY_CORRECTED = "identity corrected"
    LATE_REFUSAL = "late refusal"
    PROCEDURE_STEP = "procedure step"
    AVAILABILITY = "availability"
    SERIES_WAITING = "series waiting"
    SERIES_COMPLETE = "series complete"
    SIGNAL_DISREGARDED = "signal disregarded"
    RULE_WAITING = "rule waiting"
    DECIDED = "decided"
    BETTER_SERIES = "better series"
    REROUTED = "rerouted"
    JOB_SCHEDULED = "job scheduled"
    ATTEMPT_STARTED = "attempt started"
    ATTEMPT_FINISHED = "attempt finished"
    ATTEMPT_FAILED = "attempt failed"
    JOB_RECOVERED = "job recovered"
    INFER_TIMINGS = "infer timings"
    OUTCOME = "outcome"
    RESULTS_REFUSED = "results refused"
    OBJECTS_WITHHELD = "objects withheld"
    ESCALATED = "escalated"
    JOB_COMPLETED = "job completed"
    JOB_CANCELED = "job canceled"
    JOB_RETRIED = "job retried"
    JOB_RETRACTED = "job retracted"
    PRIORITY_CHANGED = "priority changed"
    OPERATOR_ACTED = "operator acted"
    DELIVERY_STORED = "delivery stored"
    DELIVERY_CONFIRMED = "delivery confirmed"
    DELIVERY_OVERDUE = "delivery overdue"
    DELIVERY_REOPENED = "delivery reopened"
    RESULTS_WITHDRAWN = "replaced results withdrawn"
    RESULTS_NOT_WITHDRAWN = "replaced results not withdrawn"
    VERDICTS = "verdicts"
    NO_VERDICT = "no verdict"
    ATTEMPT_YIELDED = "attempt yielded"
    KEPT_IN_SHADOW = "kept in shadow"
    IMAGE_EXCLUDED = "image excluded"
    IMAGE_INCLUDED = "image included"
    IMAGES_PURGED = "images purged"
    RESULTS_PURGED = "results purged"
    RESULTS_LOST = "results lost"
    LATE_ORDER = "late order"
    WORKLIST = "worklist"
    STUDY_CONTENT = "study content"
    REQUESTED = "requested"


def record_event(
    connection: sa.Connection,
    job_id: str,
    kind: EventKind,
    *,
    stage: str | None = None,
    attempt: int | None = None,
    seconds: float | None = None,
    destination: str | None = None,
    error_code: str | None = None,
    **parameters: object,
) -> None:
    """Add an event to the timeline of the job's study; nothing when there is no such job.

    ``attempt``: from 1; ``parameters``: what else the kind's sentence needs, as JSON values.
    """
    values = {
        "at": ledger_clock(connection),
        "kind": kind,
        "stage": stage,
        "attempt": attempt,
        "seconds": seconds,
        "destination": destination,
        "error_code": error_code,
        "parameters": parameters,
    }
    of_job = {"study_instance_uid": job.c.study_instance_uid, "series_instance_uid": job.c.series_instance_uid}
    literals = {name: sa.literal(value, event.c[name].type).label(name) for name, value in values.items()}
    query = sa.select(*of_job.values(), job.c.id, *literals.values()).where(job.c.id == job_id)
    connection.execute(sa.insert(event).from_select([*of_job, "job_id", *literals], query))


def record_study_event(
    connection: sa.Connection,
    kind: EventKind,
    *,
    at: float,
    study_instance_uid: str,
    series_instance_uid: str | None = None,
    **parameters: object,
) -> None:
    """Add an event that concerns no job; ``at``: seconds since 1970 UTC."""
    connection.execute(
        sa.insert(event).values(
            at=at,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            kind=kind,
            parameters=parameters,
        )
    )

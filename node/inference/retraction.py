"""Retraction: sends a rejection note to every destination that holds results of a job."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from node.errors import NodeError
from node.inference.encode_process import NOTE_SECONDS, EncodeProcess
from node.inference.node_secret import secret_of
from node.jobs.engine import Jobs
from node.ledger.jobs import REJECTION, get_job
from node.ledger.results import sendable_results
from node.spool import Spool


def retract(jobs: Jobs, engine: Engine, spool: Spool, job_id: str, reason: str) -> None:
    """Create the note, store it with the results of the job and schedule its delivery.

    Raises ``NotFoundError``, ``GateError`` when the note is not fit to be sent, or ``NodeError`` when the job has made
    nothing, was retracted already, or no destination holds anything of it.
    """
    with engine.connect() as connection:
        job = get_job(connection, job_id)
        results = sendable_results(connection, job_id)
    if any(kind == REJECTION for _, kind in results):
        raise NodeError(f"job {job_id} is retracted already; `ainode explain` its study to see when")
    if not results and job.results_purged_at is not None:
        raise NodeError(f"the results of job {job_id} are purged, and a note that rejects them needs their files")
    if not results:
        raise NodeError(f"job {job_id} has no results to retract; `ainode cancel` it if it must not go on")
    paths: list[Path] = sorted(spool.all_readable(path for path, _ in results))
    encoder = EncodeProcess(spool, NOTE_SECONDS)
    try:
        note = encoder.note(job, paths, salt=secret_of(engine, spool.folder), reason=reason)
    finally:
        encoder.close()
    jobs.retract(job_id, note, reason, spool.machine, copies=spool.copies)

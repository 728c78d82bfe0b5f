"""The workitem with a UID: one that was requested, or one that the rules have decided on."""

from __future__ import annotations

from sqlalchemy import Engine

from node.ledger.workitem_progress import WorkitemProgress, progress_of_job, progress_of_request
from node.ledger.workitem_subscriptions import WorkitemKey
from node.workitems.job_uid import JobUids


def known_workitem(engine: Engine, uids: JobUids, uid: str) -> WorkitemProgress | None:
    """Return how far a workitem is; ``None``: this node has none with this UID."""
    with engine.connect() as connection:
        of = progress_of_request(connection, uid)
    if of is None and (job_id := uids.job_id(uid)):
        with engine.connect() as connection:
            of = progress_of_job(connection, job_id)
    return of


def workitem_key(uid: str, of: WorkitemProgress) -> WorkitemKey:
    """Return a workitem as subscriptions name it."""
    job_id = of.job.id if of.requested is None and of.job is not None else ""
    return WorkitemKey(uid=uid, study_instance_uid=of.study_instance_uid, job_id=job_id)

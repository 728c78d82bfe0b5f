"""Which studies and jobs an operator means: by UID, job id, accession number or patient ID."""

from __future__ import annotations

from contextlib import closing

import sqlalchemy as sa

from node.config import Config
from node.confined import Bounds, ConfinedProcess
from node.errors import NodeError, NotFoundError
from node.ledger.engine import snapshot
from node.ledger.jobs import Job
from node.ledger.names import jobs_named, studies_named
from node.ledger.study_progress import latest_studies
from node.operate.study_labels import Label, StudyLabels
from node.spool import Spool
from node.workitems.job_uid import JobUids

_AT_ONCE = 200
"""Studies whose headers one call reads."""
_BOUNDS = Bounds(memory_mib=3072, cpu_seconds=120)
"""Of one call."""


def find_studies(config: Config, engine: sa.Engine, spool: Spool, name: str) -> list[str]:
    """Study Instance UIDs that ``name`` means, the latest first: one for a UID or job id, any number for a patient ID.

    Accession number and patient ID are not in the ledger: the headers of all studies are read for them, where
    ``[web] show_patient`` allows it. Raises ``NotFoundError``.
    """
    name = _of_workitem(engine, name)
    with snapshot(engine) as connection:
        studies = studies_named(connection, name)
        if not studies and config.web.show_patient:
            studies = _labelled_so(config, connection, spool, name)
    if not studies:
        also = "" if config.web.show_patient else "; accession number and patient ID need [web] show_patient = true"
        raise NotFoundError(f"study {name}: not in the ledger; `ainode status` lists the latest studies{also}")
    return studies


def find_job(config: Config, engine: sa.Engine, spool: Spool, name: str) -> Job:
    """The one job that ``name`` means. Raises ``NotFoundError``, or ``NodeError`` naming each of several."""
    try:
        studies = find_studies(config, engine, spool, name)
    except NotFoundError as error:
        raise NotFoundError(f"job {name!r} is not in the ledger, and names no study: {error}") from None
    with snapshot(engine) as connection:
        jobs = jobs_named(connection, studies, _of_workitem(engine, name))
    if not jobs:
        raise NotFoundError(f"{name}: the study has no job; `ainode explain` says why")
    if len(jobs) > 1:
        each = "; ".join(f"{job.id} ({job.pipeline}, {job.outcome or job.state})" for job in jobs)
        raise NodeError(f"{name} has {len(jobs)} jobs; give the id of one: {each}")
    return jobs[0]


def _of_workitem(engine: sa.Engine, name: str) -> str:
    """The id of the job, when ``name`` is the UID under which others see its analysis; else ``name``."""
    return JobUids(engine).job_id(name) or name


def read_labels(config: Config, engine: sa.Engine, spool: Spool, studies: list[str]) -> dict[str, Label]:
    """Labels of ``studies``, by a confined process that ends with the call."""
    if not studies:
        return {}
    with closing(_reader(spool)) as reader, engine.connect() as connection:
        return StudyLabels(spool, reader, show_patient=config.web.show_patient).of(connection, studies)


def _labelled_so(config: Config, connection: sa.Connection, spool: Spool, name: str) -> list[str]:
    everything, studies = latest_studies(connection, None), []
    with closing(_reader(spool)) as reader:
        labels = StudyLabels(spool, reader, show_patient=config.web.show_patient)
        for first in range(0, len(everything), _AT_ONCE):
            part = labels.of(connection, everything[first : first + _AT_ONCE])
            studies += [uid for uid, label in part.items() if label.is_named(name)]
    return studies


def _reader(spool: Spool) -> ConfinedProcess:
    return ConfinedProcess("header reader", readable=spool.data_folders, bounds=_BOUNDS, decodes=False)

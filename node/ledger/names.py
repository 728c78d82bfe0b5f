"""What a UID or job id names: studies, and the jobs of an object, a series or a study."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from node.ledger.jobs import Job, jobs_of
from node.ledger.tables import conflict, excluded, instance, job, refusal, result, series, workitem


def studies_named(connection: sa.Connection, name: str) -> list[str]:
    """Studies that ``name`` belongs to: UID of a study, series, image, result or workitem, or id of a job; exact."""
    of_result = sa.or_(result.c.sop_instance_uid == name, result.c.series_instance_uid == name)
    queries = [
        sa.select(series.c.study_instance_uid).where(
            sa.or_(series.c.study_instance_uid == name, series.c.series_instance_uid == name)
        ),
        sa.select(instance.c.study_instance_uid).where(instance.c.sop_instance_uid == name),
        sa.select(job.c.study_instance_uid).where(job.c.id == name),
        sa.select(workitem.c.study_instance_uid).where(workitem.c.uid == name),
        sa.select(job.c.study_instance_uid).join(result, result.c.job_id == job.c.id).where(of_result),
        *(
            sa.select(table.c.study_instance_uid).where(
                table.c.study_instance_uid != "",
                sa.or_(
                    table.c.study_instance_uid == name,
                    table.c.series_instance_uid == name,
                    table.c.sop_instance_uid == name,
                ),
            )
            for table in (conflict, excluded, refusal)
        ),
    ]
    return sorted(connection.scalars(sa.union(*queries)))


def jobs_named(connection: sa.Connection, studies: Collection[str], name: str) -> list[Job]:
    """Those jobs of ``studies`` that ``name`` means: of a result, of one series, or all; a job id names its own."""
    jobs = jobs_of(connection, studies)
    requested = connection.scalar(sa.select(workitem.c.job_id).where(workitem.c.uid == name))
    of_result = sa.or_(result.c.sop_instance_uid == name, result.c.series_instance_uid == name)
    makers = set(connection.scalars(sa.select(result.c.job_id).where(of_result)))
    of_image = set(
        connection.scalars(sa.select(instance.c.series_instance_uid).where(instance.c.sop_instance_uid == name))
    )
    for narrower in (
        [candidate for candidate in jobs if candidate.id in (name, requested)],
        [candidate for candidate in jobs if candidate.id in makers],
        [candidate for candidate in jobs if candidate.series_instance_uid in {name, *of_image}],
    ):
        if narrower:
            return narrower
    return jobs

"""Whether something still works with the images of a study."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.jobs import DELIVERY_OPEN
from node.ledger.states import ACTIVE, SeriesState
from node.ledger.tables import delivery, job, series


def is_study_in_use(connection: sa.Connection, study: str, series_uid: str) -> bool:
    """Return whether a series is incomplete, or its study has active jobs or pending deliveries."""
    of_study = job.c.study_instance_uid == study
    this = series.c.study_instance_uid == study, series.c.series_instance_uid == series_uid
    uses = (
        sa.select(sa.literal(1)).select_from(job).where(of_study, job.c.state.in_(ACTIVE)),
        sa.select(sa.literal(1))
        .select_from(delivery.join(job, job.c.id == delivery.c.job_id))
        .where(of_study, DELIVERY_OPEN),
        sa.select(sa.literal(1)).select_from(series).where(*this, series.c.state != SeriesState.COMPLETE),
    )
    return any(connection.scalar(query.limit(1)) is not None for query in uses)

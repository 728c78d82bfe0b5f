"""Analyses that reached all their destinations, with the time of the last image before and of the last proof."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.config import FORWARD
from node.ledger.states import DeliveryState, JobState
from node.ledger.tables import decision, delivery, job, job_fact


@dataclass(frozen=True, kw_only=True)
class DeliveredAnalysis:
    """One analysis."""

    pipeline: str
    scanner: str
    """As its images name it; empty: not known."""
    last_image_at: float
    """Seconds since 1970 UTC, of the images that the analysis used; later images of the series do not count."""
    arrived_at: float
    """When the last destination confirmed, or had stored everything where no proof is configured."""

    @property
    def seconds(self) -> float:
        """Its turnaround; 0 when the clock was set back in between."""
        return max(self.arrived_at - self.last_image_at, 0.0)


def arrived_since(connection: sa.Connection, since: float) -> list[DeliveredAnalysis]:
    """Analyses that reached all their destinations at or after ``since``, oldest first."""
    done = sa.case(
        (delivery.c.state == DeliveryState.CONFIRMED, delivery.c.updated_at),
        (delivery.c.state == DeliveryState.STORED, delivery.c.ended_at),
    )
    last = sa.func.max(done)
    of_decision = sa.and_(
        decision.c.study_instance_uid == job.c.study_instance_uid,
        decision.c.series_instance_uid == job.c.series_instance_uid,
        decision.c.generation == job.c.generation,
    )
    query = (
        sa.select(job.c.pipeline, sa.func.max(job_fact.c.scanner), sa.func.max(decision.c.last_image_at), last)
        .join(delivery, delivery.c.job_id == job.c.id)
        .join(decision, of_decision)
        .join(job_fact, job_fact.c.job_id == job.c.id, isouter=True)
        .where(job.c.state == JobState.COMPLETED, job.c.updated_at >= since, job.c.pipeline != FORWARD)
        .where(decision.c.last_image_at.is_not(None))
        .group_by(job.c.id, job.c.pipeline)
        .having(sa.func.count(done) == sa.func.count(), last >= since)
        .order_by(last)
    )
    return [
        DeliveredAnalysis(pipeline=pipeline, scanner=scanner or "", last_image_at=image_at, arrived_at=at)
        for pipeline, scanner, image_at, at in connection.execute(query)
    ]

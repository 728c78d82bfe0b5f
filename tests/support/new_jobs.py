"""Jobs of one study that nobody has received, for tests of queues and turns."""

from __future__ import annotations

from node.ledger.jobs import NewJob


def new_job(number: int = 1, priority: int = 2, pipeline: str = "p") -> NewJob:
    """A job on the series of a number."""
    return NewJob(
        study_instance_uid="1.2",
        series_instance_uid=f"1.2.{number}",
        generation=1,
        pipeline=pipeline,
        rule="r",
        destinations=("pacs",),
        priority=priority,
    )

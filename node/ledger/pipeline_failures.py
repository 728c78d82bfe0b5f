"""Failures of pipelines: how many jobs in a row a pipeline has failed on, and the pause that follows.

After ``FAILURES`` jobs its attempts get a turn only after a pause, whichever process makes them, so that a pipeline
that crashes or hangs leaves the devices to others. A single series that no attempt can analyse is one failure: it is no
reason to pause. The first success ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from node.errors import AbsentFileError, AdmissionError, InputError, LedgerError
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.tables import pipeline_failure
from node.retry_delay import retry_delay

FAILURES = 3
"""Jobs in a row that fail before their pipeline is paused."""
LONGEST_PAUSE = 3600.0
"""Seconds; a longer one can only come from a clock that was set back."""
_FIRST_PAUSE = 5.0
_LAST_PAUSE = 300.0
"""Seconds, doubled with each failure from the first to the last."""
_SHARE = 9.0
"""A pause lasts at least this many times as long as the attempt: a tenth of a device for pipelines that hang."""
_OTHERS = (AbsentFileError, InputError, AdmissionError, LedgerError, SQLAlchemyError, OSError)
"""Errors that say nothing of the pipeline: of the series, the memory, the ledger, the disks."""


@dataclass(frozen=True, kw_only=True)
class PipelineFailures:
    """A pipeline that has failed since its last success."""

    pipeline: str
    failures: int
    """Jobs in a row."""
    job_id: str
    """The last of them."""
    since: float
    until: float | None
    """When the next attempt gets a turn; ``None``: it is not paused."""

    def is_paused(self, at: float) -> bool:
        """Whether no attempt gets a turn at this time, by the ledger's clock."""
        return self.until is not None and at < self.until <= at + LONGEST_PAUSE


def failed_pipelines(connection: sa.Connection) -> dict[str, PipelineFailures]:
    """Those whose last job failed, by name."""
    rows = connection.execute(sa.select(pipeline_failure)).mappings()
    return {row["pipeline"]: PipelineFailures(**row) for row in rows}


def failing_pipelines(connection: sa.Connection) -> dict[str, PipelineFailures]:
    """Those with ``FAILURES`` or more, by name: one attempt at a time, after each pause."""
    return {name: of for name, of in failed_pipelines(connection).items() if of.until is not None}


def record_failure(
    connection: sa.Connection, pipeline: str, job_id: str, seconds: float, error: BaseException | None
) -> None:
    """Count an attempt of a job that failed after ``seconds``. ``error``: ``None`` when the process died."""
    if isinstance(error, _OTHERS):
        return
    at = ledger_clock(connection)
    insert_new(connection, pipeline_failure, [{"pipeline": pipeline, "failures": 0, "job_id": "", "since": at}])
    this = pipeline_failure.c.pipeline == pipeline
    row = connection.execute(sa.select(pipeline_failure).where(this).with_for_update()).one()
    failures = row.failures + (row.job_id != job_id)
    values = {"failures": failures, "job_id": job_id, "until": _until(failures, at, seconds)}
    connection.execute(sa.update(pipeline_failure).where(this).values(**values))


def begin_probe(connection: sa.Connection, pipeline: str) -> None:
    """Pause a failing pipeline again while one attempt of it is executed, so that no other process begins another."""
    failing = failing_pipelines(connection).get(pipeline)
    if failing is not None:
        until = _until(failing.failures, ledger_clock(connection), 0.0)
        this = pipeline_failure.c.pipeline == pipeline
        connection.execute(sa.update(pipeline_failure).where(this).values(until=until))


def reset_failures(connection: sa.Connection, pipeline: str) -> None:
    """Give the pipeline its turns again: an attempt succeeded, or an operator wants it."""
    connection.execute(sa.delete(pipeline_failure).where(pipeline_failure.c.pipeline == pipeline))


def _until(failures: int, at: float, seconds: float) -> float | None:
    if failures < FAILURES:
        return None
    pause = retry_delay(failures - FAILURES + 1, _FIRST_PAUSE, _LAST_PAUSE)
    return at + min(max(pause, _SHARE * seconds), LONGEST_PAUSE)

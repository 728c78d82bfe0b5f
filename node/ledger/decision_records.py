"""Decision records: a chain of rows that outlive studies, added at its end and expiring at its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.key_ranges import KeyCondition
from node.ledger.states import ACTIVE, DecisionOutcome, SeriesState
from node.ledger.tables import LATEST_DECISION, decision, decision_record, event, job, series

SETTLED_SECONDS = 60.0
"""A study is recorded when nothing has happened to it for this long."""
_CHAIN_LOCK = 0x41495245
"""Key of the PostgreSQL advisory lock of the end of the chain."""
_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class StoredRecord:
    """One row of the chain."""

    number: int
    study_instance_uid: str
    """Empty: it is about records that have expired."""
    state_digest: str
    patient: str
    record: str
    """Canonical JSON."""
    signature: str
    recorded_at: float


_COLUMNS = decision_record.c[tuple(StoredRecord.__dataclass_fields__)]


def hold_chain(connection: sa.Connection) -> None:
    """Let nobody else add a record until the transaction ends; on SQLite it is the only one that writes."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CHAIN_LOCK)))


def last_record(connection: sa.Connection, study: str | None = None) -> StoredRecord | None:
    """Return the end of the chain, or the latest record of a study."""
    query = sa.select(*_COLUMNS).order_by(decision_record.c.number.desc()).limit(1)
    if study is not None:
        query = query.where(decision_record.c.study_instance_uid == study)
    return next(map(_stored, connection.execute(query)), None)


def add_record(connection: sa.Connection, new: StoredRecord) -> None:
    """Add a record to the end of the chain, which ``hold_chain`` holds."""
    connection.execute(sa.insert(decision_record).values(**vars(new)))


def records(connection: sa.Connection, since: float = 0.0) -> Iterator[StoredRecord]:
    """All records that were written at or after ``since`` (seconds since 1970 UTC), in their order."""
    query = sa.select(*_COLUMNS).where(decision_record.c.recorded_at >= since).order_by(decision_record.c.number)
    for row in connection.execution_options(yield_per=_ROWS).execute(query):
        yield _stored(row)


def expired_before(connection: sa.Connection, before: float) -> StoredRecord | None:
    """Return the last of the records at the beginning of the chain that were all written before ``before``."""
    young = sa.select(sa.func.min(decision_record.c.number)).where(decision_record.c.recorded_at >= before)
    query = sa.select(*_COLUMNS).where(decision_record.c.number < sa.func.coalesce(young.scalar_subquery(), 2**62))
    return next(map(_stored, connection.execute(query.order_by(decision_record.c.number.desc()).limit(1))), None)


def remove_through(connection: sa.Connection, number: int) -> None:
    """Remove the records at the beginning of the chain up to one, which a new record names."""
    connection.execute(sa.delete(decision_record).where(decision_record.c.number <= number))


def unrecorded_studies(
    connection: sa.Connection, at: float, of_studies: KeyCondition = lambda _: sa.true()
) -> dict[str, float]:
    """Finished studies to which something happened after their latest record: the time of their last event.

    A study is finished when all of its series are complete and decided on, no job of it is active, and nothing has
    happened to it for ``SETTLED_SECONDS``.
    """
    study = event.c.study_instance_uid
    recorded = sa.select(sa.func.max(decision_record.c.recorded_at)).where(
        decision_record.c.study_instance_uid == study
    )
    last = sa.func.max(event.c.at)
    open_series = sa.exists().where(
        series.c.study_instance_uid == study,
        sa.or_(series.c.state != SeriesState.COMPLETE, ~_decided()),
    )
    open_job = sa.exists().where(job.c.study_instance_uid == study, job.c.state.in_(ACTIVE))
    known = sa.exists().where(series.c.study_instance_uid == study)
    query = (
        sa.select(study, last)
        .where(of_studies(study))
        .group_by(study)
        .having(
            last <= at - SETTLED_SECONDS,
            last > sa.func.coalesce(recorded.scalar_subquery(), 0.0) - SETTLED_SECONDS,
            known,
            ~open_series,
            ~open_job,
        )
    )
    return {uid: float(when) for uid, when in connection.execute(query)}


def _decided() -> sa.ColumnElement[bool]:
    """Whether the latest generation of a series has a decision that waits for nothing."""
    return sa.exists().where(LATEST_DECISION, decision.c.outcome != DecisionOutcome.WAITING)


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredRecord:
    return StoredRecord(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name

"""Copies of the ledger: the rows of one moment, from SQLite or PostgreSQL into a new SQLite or PostgreSQL ledger.

What belongs to running processes stays behind: heartbeats, sessions, attempts to log in, and the queues of DBOS. The
jobs are complete without them: the engine puts every active job without a workflow back into its queue.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.errors import LedgerError
from node.ledger.engine import begin_immediate, snapshot
from node.ledger.states import ACTIVE, JobStage, JobState
from node.ledger.tables import conflict, excluded, instance, job, login_attempt, member, metadata, result, session

_OF_PROCESSES = {login_attempt.name, member.name, session.name}
_ROWS = 1000
"""In memory at a time."""


def copy_ledger(origin: sa.Engine, target: sa.Engine) -> int:
    """Copy all rows of ``origin`` as of now, while processes go on writing; return how many.

    Raises ``LedgerError`` when ``target`` has rows already; then nothing is copied.
    """
    rows = 0
    with snapshot(origin) as reading, begin_immediate(target) as writing:
        if used := next((table.name for table in metadata.sorted_tables if _has_rows(writing, table)), None):
            raise LedgerError(f"ledger {target.url!r} is in use (its table {used} has rows); give an empty one")
        for connection in (reading, writing):
            if connection.dialect.name == "postgresql":  # a large table takes its time
                for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
        for table in metadata.sorted_tables:
            if table.name not in _OF_PROCESSES:
                rows += _copy(reading, writing, table)
    return rows


def recorded_paths(connection: sa.Connection) -> set[str]:
    """Paths of all received files and results."""
    tables = (instance, conflict, excluded, result)
    return set(connection.scalars(sa.union(*(sa.select(table.c.path) for table in tables))))


def infer_again(connection: sa.Connection, job_id: str | None = None) -> None:
    """Begin active jobs again whose inference is done but not encoded, because what it handed over is lost.

    ``job_id``: one of them. The engine finds them without an attempt and puts them into their queues.
    """
    waiting = sa.and_(job.c.state.in_(ACTIVE), job.c.stage == JobStage.ENCODE)
    if job_id is not None:
        waiting = sa.and_(waiting, job.c.id == job_id)
    again = {"stage": JobStage.INFER, "state": JobState.SCHEDULED, "attempt": 0, "next_at": None}
    connection.execute(sa.update(job).where(waiting).values(**again, run=job.c.run + 1))


def _has_rows(connection: sa.Connection, table: sa.Table) -> bool:
    return connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) is not None


def _copy(reading: sa.Connection, writing: sa.Connection, table: sa.Table) -> int:
    stored = _as_stored(table)
    names, count = [column.name for column in stored.columns], 0
    with reading.execution_options(yield_per=_ROWS).execute(sa.select(stored)) as result_rows:
        for part in result_rows.partitions(_ROWS):
            writing.execute(sa.insert(stored), [dict(zip(names, row, strict=True)) for row in part])
            count += len(part)
    if writing.dialect.name == "postgresql" and (counted := table.autoincrement_column) is not None:
        last = sa.select(sa.func.max(counted)).scalar_subquery()
        sequence = sa.func.pg_get_serial_sequence(table.name, counted.name)
        writing.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(last, 1))))
    return count


def _as_stored(table: sa.Table) -> sa.TableClause:
    """The table without the escaping of new values: those that are copied are escaped already."""
    return sa.table(table.name, *(sa.column(column.name, _stored_type(column.type)) for column in table.columns))


def _stored_type(kind: sa.types.TypeEngine[object]) -> sa.types.TypeEngine[object]:
    if not isinstance(kind, sa.types.TypeDecorator):
        return kind
    return sa.JSON(none_as_null=True) if isinstance(kind.impl_instance, sa.JSON) else kind.impl_instance

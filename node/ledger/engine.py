"""Connections to the ledger: one engine per process, the same code for SQLite and PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from node.errors import LedgerError
from node.ledger.migrations import is_usable, upgrade

_UPGRADE_LOCK = 0x41494E44
"""Key of the PostgreSQL advisory lock under which tables are created and changed."""
_ROWS_AT_ONCE = 16
"""Rows that one INSERT names. Drivers keep a hundred prepared statements, and one for every number of rows up to 256
takes them 34 MB; to make them again takes longer than the smaller statements do."""


_CONNECTING = {
    "connect_timeout": "3",
    "keepalives_idle": "3",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "tcp_user_timeout": "7000",
    "target_session_attrs": "primary",
}
"""libpq's, in seconds and milliseconds: a server that is gone without a word is noticed within 8 s, where the kernel
would try for a quarter of an hour, and a replica that is not promoted yet is not taken for the ledger."""
_SESSION = {
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "30s",
    "statement_timeout": "300s",
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "7000",
    "client_connection_check_interval": "5s",
}
"""PostgreSQL's: what a process or machine held that vanished is free again soon, and no wait is endless."""
_READ_ONLY = "25006"
"""SQLSTATE of a write to a server that has become a replica, or was made read-only."""


KEPT_CONNECTIONS, MORE_CONNECTIONS = 5, 10
"""To PostgreSQL, of one process: those that stay open, and those that come and go."""
CLOCK = "ledger_clock"
"""The execution option of an engine that holds its ``ServerClock``."""
_ASKED_SECONDS = 5.0


class ServerClock:
    """PostgreSQL's clock: asked every few seconds, and continued by the time since the start of this machine.

    All connections of an engine share one, so what one process records is in the order in which it happened.
    """

    def __init__(self) -> None:
        self._asked: tuple[float, float, float] | None = None
        """What the server said, when, and how long it took."""

    def read(self, connection: sa.Connection) -> float:
        """Return now, in seconds since 1970 UTC."""
        return self.read_within(connection)[0]

    def read_within(self, connection: sa.Connection) -> tuple[float, float]:
        """Return now, and by how many seconds the server may be ahead of that: what it took to answer."""
        asked, since_start = self._asked, time.clock_gettime(time.CLOCK_BOOTTIME)
        if asked is None or since_start - asked[1] > _ASKED_SECONDS:
            began, at = since_start, connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())"))
            since_start = time.clock_gettime(time.CLOCK_BOOTTIME)
            self._asked = asked = (float(at or 0.0), since_start, since_start - began)
        return asked[0] + since_start - asked[1], asked[2]


def ledger_url(url: str, folder: Path) -> str:
    """``[storage] ledger_url``, or the SQLite file in ``folder`` when that is empty, with its driver named."""
    if not url:
        return f"sqlite:///{folder / 'ledger.sqlite'}"
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def open_ledger(url: str) -> sa.Engine:
    """Open the ledger; create or upgrade its tables when they are not those of this version of the node.

    Raises ``LedgerError`` when it cannot be opened, or when another version of the node wrote it that this one cannot
    follow (``node.ledger.migrations``).

    SQLite runs in WAL mode with ``synchronous=FULL``: a committed row survives a power cut.
    """
    options: dict[str, Any] = {"insertmanyvalues_page_size": _ROWS_AT_ONCE, "hide_parameters": True}
    if url.startswith("sqlite"):
        engine = sa.create_engine(url, **options, connect_args={"timeout": 30.0})
        _create_closed(engine.url.database)
        sa.event.listen(engine, "connect", _sqlite_pragmas)
    else:
        options["execution_options"] = {CLOCK: ServerClock()}
        options |= {"pool_size": KEPT_CONNECTIONS, "max_overflow": MORE_CONNECTIONS, "pool_pre_ping": True}
        engine = sa.create_engine(_bounded(url), **options)
        sa.event.listen(engine, "connect", _session_limits)
        sa.event.listen(engine, "handle_error", _leave_replica)
    try:
        with engine.connect() as connection:
            usable = is_usable(connection)
        if not usable:
            _upgrade(engine)
    except LedgerError:
        engine.dispose()
        raise
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise LedgerError(f"ledger {engine.url!r} cannot be opened: {error}; check path, rights and server") from error
    return engine


def _create_closed(database: str | None) -> None:
    """Create the file of SQLite so that other users of the machine cannot read it; the journals take its mode.

    One that exists is not opened: to close it again would end the locks that this process has on it (POSIX), and
    another process could remove the journal with what this one has committed.
    """
    if database and database != ":memory:":
        with suppress(OSError):  # it exists; what is wrong with the folder shows when the file is opened
            os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))


def _upgrade(engine: sa.Engine) -> None:
    """One process upgrades, in one transaction; those that start at the same time wait for it."""
    with begin_immediate(engine) as connection:
        if connection.dialect.name == "postgresql":
            for limit in ("lock_timeout", "statement_timeout"):  # an index of a large ledger takes its time
                connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            upgrade(connection, ServerClock().read(connection))
        else:
            upgrade(connection, now())


def _bounded(url: str) -> sa.URL:
    """The URL with limits to every wait for the network, also for DBOS, which connects by it; what it says itself wins.

    A server that is stopped but whose kernel answers is not noticed by them.
    """
    stated = sa.make_url(url)
    return stated.update_query_dict({name: value for name, value in _CONNECTING.items() if name not in stated.query})


def _session_limits(connection: Any, _record: Any) -> None:
    stated = connection.info.get_parameters().get("options", "")
    limits = [(name, value) for name, value in _SESSION.items() if name not in stated]
    # In one round trip, and only what this version of the server knows.
    known = (
        "SELECT set_config(name, value, false) FROM pg_settings "
        "JOIN unnest(%s::text[], %s::text[]) AS wanted (name, value) USING (name)"
    )
    autocommit, connection.autocommit = connection.autocommit, True
    try:
        connection.execute(known, [[name for name, _ in limits], [value for _, value in limits]])
        connection.autocommit = autocommit
    except BaseException:
        connection.close()  # the pool has it only after this
        raise


def _leave_replica(context: sa.engine.ExceptionContext) -> None:
    """Drop the connections to a server that takes no more writes; the next ones look for the server that does."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def begin_immediate(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A write transaction that takes SQLite's write lock first, so that reads inside it cannot go stale."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        with connection.begin() if not connection.in_transaction() else connection.get_transaction():  # type: ignore[union-attr]
            yield connection


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A read transaction: all its queries see the ledger of one moment, and nobody waits for it."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # the driver begins none for reading
        else:
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def timeline(engine: sa.Engine) -> str:
    """Name of the history that the ledger follows. It changes when a replica is promoted, which may lack the last rows.

    Empty for SQLite, which has one history.
    """
    if engine.dialect.name == "sqlite":
        return ""
    # Of the log that is written now: pg_control_checkpoint() follows a promotion only at the next checkpoint.
    name = "SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
    with engine.connect() as connection:
        return str(connection.scalar(sa.text(name)))


def integrity_answer(engine: sa.Engine) -> list[str]:
    """What SQLite says of its own file, ``["ok"]`` when it is sound; of a server, its version."""
    question = "PRAGMA integrity_check" if engine.dialect.name == "sqlite" else "SHOW server_version"
    try:
        with engine.connect() as connection:
            return [str(row[0]) for row in connection.execute(sa.text(question))]
    except sa.exc.DatabaseError as error:
        return [str(error.orig)]


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert rows whose primary key is new, leave the others alone; return how many were new."""
    if not rows:
        return 0
    insert = insert_if_new(connection.dialect.name, table)
    # Without the option SQLAlchemy answers -1 on PostgreSQL.
    return int(connection.execute(insert, list(rows), execution_options={"preserve_rowcount": True}).rowcount)


@cache
def insert_if_new(dialect_name: str, table: sa.Table) -> Any:
    """The statement of ``insert_new``, built once: it is in the way of every received image."""
    dialect: Any = postgresql if dialect_name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def among(connection: sa.Connection, column: sa.Column[str], values: Collection[str]) -> sa.ColumnElement[bool]:
    """Return whether a column has one of many values.

    PostgreSQL gets them as one array: hundreds of parameters take the driver and its planner longer than the rows do.
    """
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(sa.Text)))
    return column.in_(values)


def now() -> float:
    """Seconds since 1970 UTC by this machine; times in the ledger are by ``node.ledger.clock``."""
    return time.time()

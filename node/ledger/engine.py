"""Connections to the ledger: one engine per process, the same code for SQLite and PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from node.errors import LedgerError
from node.ledger.migrations import is_current, upgrade

_UPGRADE_LOCK = 0x41494E44
"""Key of the PostgreSQL advisory lock under which tables are created and changed."""
_ROWS_AT_ONCE = 16
"""Rows that one INSERT names. Drivers keep a hundred prepared statements, and one for every number of rows up to 256
takes them 34 MB; to make them again takes longer than the smaller statements do."""


_CONNECTING = {
    "connect_timeout": "4",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "12000",
}
"""libpq's, in seconds and milliseconds: a server that is gone without a word is noticed within 14 s. Without them the
kernel tries for a quarter of an hour."""
_SESSION = {"idle_in_transaction_session_timeout": "60s", "lock_timeout": "30s"}
"""PostgreSQL's: what a process holds that vanished is free again, and nobody waits for it for ever."""


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
        engine = sa.create_engine(_bounded(url), **options, pool_pre_ping=True)
        sa.event.listen(engine, "connect", _session_limits)
    try:
        with engine.connect() as connection:
            current = is_current(connection)
        if not current:
            _upgrade(engine)
    except LedgerError:
        engine.dispose()
        raise
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise LedgerError(f"ledger {engine.url!r} cannot be opened: {error}; check path, rights and server") from error
    return engine


def _create_closed(database: str | None) -> None:
    """Create the file of SQLite so that other users of the machine cannot read it; the journals take its mode."""
    if database and database != ":memory:":
        with suppress(OSError):  # what is wrong with the folder shows when the file is opened
            os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))


def _upgrade(engine: sa.Engine) -> None:
    """One process upgrades, in one transaction; those that start at the same time wait for it."""
    with begin_immediate(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # an index of a large ledger takes its time
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        upgrade(connection)


def _bounded(url: str) -> sa.URL:
    """The URL with limits to every wait for the network, also for DBOS, which connects by it; what it says itself wins.

    A server that is stopped but whose kernel answers is not noticed by them.
    """
    stated = sa.make_url(url)
    return stated.update_query_dict({name: value for name, value in _CONNECTING.items() if name not in stated.query})


def _session_limits(connection: Any, _record: Any) -> None:
    stated = connection.info.get_parameters().get("options", "")
    autocommit, connection.autocommit = connection.autocommit, True
    for name, value in _SESSION.items():
        if name not in stated:
            connection.execute(f"SET {name} = '{value}'")
    connection.autocommit = autocommit


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


def now() -> float:
    """Seconds since 1970 UTC, the unit of every ``*_at`` column."""
    return time.time()

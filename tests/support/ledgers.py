"""New ledgers for tests: copies of one that is migrated once, as the migrations take longer than most tests."""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import postgres
import sqlalchemy as sa

from node.ledger.engine import open_ledger


def open_copy(url: str) -> sa.Engine:
    """Open the ledger of ``url``; a file of SQLite that does not exist begins as a copy, and so does one in memory."""
    if url == "sqlite://":
        return _open_in_memory()
    kind, _, file = url.partition(":///")
    if kind == "sqlite" and file and not Path(file).exists():
        shutil.copy(_migrated_file(), file)
    return open_ledger(url)


def new_on_server(server: str, name: str) -> str:
    """Create database ``name`` with a ledger on the PostgreSQL server of ``server``; its URL."""
    return postgres.new_database(server, name, template=_migrated_database(server))


def _open_in_memory() -> sa.Engine:
    content = _migrated_content()

    def fill(connection: sqlite3.Connection, _record: Any) -> None:
        connection.deserialize(content)

    sa.event.listen(sa.Pool, "connect", fill)
    try:
        return open_ledger("sqlite://")
    finally:
        sa.event.remove(sa.Pool, "connect", fill)


@cache
def _migrated_content() -> bytes:
    with open_ledger("sqlite://").connect() as connection:
        content: bytes = connection.connection.driver_connection.serialize()  # type: ignore[union-attr]
    return content


@cache
def _migrated_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ainode-ledger-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "ledger.sqlite"
    open_ledger(f"sqlite:///{file}").dispose()
    return file


@cache
def _migrated_database(server: str) -> str:
    name = "migrated"
    open_ledger(postgres.new_database(server, name)).dispose()
    return name

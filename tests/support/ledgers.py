"""New ledgers for tests: copies of one that is migrated once, as the migrations take longer than most tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import postgres
import sqlalchemy as sa

from node.ledger.engine import open_ledger


def open_copy(url: str) -> sa.Engine:
    """Open the ledger of ``url``; a file of SQLite that does not exist begins as a copy."""
    kind, _, file = url.partition(":///")
    if kind == "sqlite" and file and not Path(file).exists():
        shutil.copy(_migrated_file(), file)
    return open_ledger(url)


def new_on_server(server: str, name: str) -> str:
    """Create database ``name`` with a ledger on the PostgreSQL server of ``server``; its URL."""
    return postgres.new_database(server, name, template=_migrated_database(server))


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

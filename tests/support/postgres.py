"""A PostgreSQL server of our own for tests, in a temporary folder, on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa


@cache
def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found and shutil.which("pg_ctl"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


def _account() -> dict[str, str | int]:
    """PostgreSQL refuses to run as root."""
    return {} if os.geteuid() else {"user": "postgres"}


@contextmanager
def cluster(address: str = "", prefix: Sequence[str] = ()) -> Iterator[str]:
    """URL of an empty database; skips the test where PostgreSQL is not installed.

    With ``address`` the server also listens there; its programs are started by the command ``prefix``.
    """
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    account = _account()
    if account and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL refuses to run as root and there is no account 'postgres'")
    folder = Path(tempfile.mkdtemp(prefix="ainode-pg-"))  # short: the path of a Unix socket is limited
    if account:
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def call(name: str, *arguments: object) -> None:
        command = [str(programs / name), *map(str, arguments)]
        if prefix:  # needs rights that the account has not
            command = [*prefix, *(["runuser", "-u", "postgres", "--"] if account else []), *command]
        given = {} if prefix else account
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, **given)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    options = f"-k {folder} -c listen_addresses={address} -c fsync=off -c max_connections=200"
    try:
        call("initdb", "-D", data, "-A", "trust", "-U", "ainode", "--no-sync")
        if address:
            with (data / "pg_hba.conf").open("a") as file:
                file.write("host all all all trust\n")
        call("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        yield f"postgresql+psycopg://ainode@/postgres?host={folder}"
    finally:
        if data.exists():
            subprocess.run(
                [str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"],
                capture_output=True,
                cwd=folder,
                check=False,
                **account,  # type: ignore[call-overload]
            )
        shutil.rmtree(folder, ignore_errors=True)


def new_database(url: str, name: str) -> str:
    """Create database ``name`` on the server of ``url``; its URL."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def drop_tables(engine: sa.Engine) -> None:
    """Leave the database as empty as it was."""
    there = sa.MetaData()
    there.reflect(engine)
    there.drop_all(engine)

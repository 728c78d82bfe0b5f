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

BOTH = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
"""The fixture ``engine`` on SQLite, then on PostgreSQL."""


@cache
def _programs() -> Path | None:
    program = shutil.which("initdb")
    if program and shutil.which("pg_ctl"):
        return Path(program).resolve().parent  # where all programs are
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
    with primary(address, prefix) as server:
        yield server.url


@contextmanager
def primary(address: str, prefix: Sequence[str] = ()) -> Iterator[Server]:
    """The server of ``cluster``."""
    with _server(prefix) as server:
        server.call("initdb", "-D", server.data, "-A", "trust", "-U", "ainode", "--no-sync")
        if address:
            with (server.data / "pg_hba.conf").open("a") as file:
                file.write("host all all all trust\nhost replication all all trust\n")
        server.start(address)
        yield server


@contextmanager
def replica(of: str, address: str) -> Iterator[Server]:
    """A server at ``address`` that follows the one at address ``of`` until its ``promote``."""
    with _server() as server:
        server.call("pg_basebackup", "-D", server.data, "-h", of, "-U", "ainode", "-R", "-X", "stream", "-c", "fast")
        server.start(address)
        yield server


class Server:
    """The programs and the folder of one server."""

    def __init__(self, programs: Path, folder: Path, account: dict[str, str | int], prefix: Sequence[str]) -> None:
        self.data = folder / "data"
        self.url = f"postgresql+psycopg://ainode@/postgres?host={folder}"
        self._programs, self._folder, self._account, self._prefix = programs, folder, account, prefix

    def call(self, name: str, *arguments: object) -> None:
        command = [str(self._programs / name), *map(str, arguments)]
        if self._prefix:  # needs rights that the account has not
            command = [*self._prefix, *(["runuser", "-u", "postgres", "--"] if self._account else []), *command]
        given = {} if self._prefix else self._account
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, check=False, **given)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, address: str) -> None:
        options = f"-k {self._folder} -c listen_addresses={address} -c fsync=off -c max_connections=300"
        self.call("pg_ctl", "-D", self.data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def promote(self) -> None:
        self.call("pg_ctl", "-D", self.data, "-w", "promote")


@contextmanager
def _server(prefix: Sequence[str] = ()) -> Iterator[Server]:
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    account = _account()
    if account and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL refuses to run as root and there is no account 'postgres'")
    folder = Path(tempfile.mkdtemp(prefix="ainode-pg-"))  # short: the path of a Unix socket is limited
    if account:
        shutil.chown(folder, "postgres")
    server = Server(programs, folder, account, prefix)
    try:
        yield server
    finally:
        if server.data.exists():
            subprocess.run(
                [str(programs / "pg_ctl"), "-D", str(server.data), "-m", "immediate", "stop"],
                capture_output=True,
                cwd=folder,
                check=False,
                **account,  # type: ignore[call-overload]
            )
        shutil.rmtree(folder, ignore_errors=True)


def new_database(url: str, name: str, template: str = "template1") -> str:
    """Create database ``name`` on the server of ``url`` as a copy of ``template``; its URL."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    engine.dispose()
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def drop_tables(engine: sa.Engine) -> None:
    """Leave the database as empty as it was."""
    there = sa.MetaData()
    there.reflect(engine)
    there.drop_all(engine)

"""PgBouncer of our own between a node and the PostgreSQL server of a test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from postgres import _account
from real_peers import free_port


class PgBouncer:
    """The pooler: ``start`` it again after ``kill``."""

    def __init__(self, program: str, folder: Path, url: str, mode: str) -> None:
        """``mode``: its ``pool_mode``."""
        self._command = [program, str(folder / "pgbouncer.ini")]
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        server = sa.make_url(url)
        self.url = f"postgresql://ainode@127.0.0.1:{self._port}/{server.database}"
        (folder / "pgbouncer.ini").write_text(f"""
[databases]
* = host={server.query["host"]} user=ainode
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
max_client_conn = 200
default_pool_size = 100
logfile = {folder / "log"}
""")

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL, **_account())  # type: ignore[call-overload]
        for _ in range(100):
            with suppress(psycopg.OperationalError), psycopg.connect(self.url):
                return
            time.sleep(0.1)
        pytest.fail("PgBouncer does not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def pgbouncer(url: str, mode: str) -> Iterator[PgBouncer]:
    """A running PgBouncer before the server of ``url``; skips the test where it is not installed."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian package pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="ainode-pool-"))
    if account := _account():
        shutil.chown(folder, account["user"])
    pooler = PgBouncer(program, folder, url, mode)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.kill()
        shutil.rmtree(folder, ignore_errors=True)

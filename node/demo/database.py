"""A PostgreSQL server for the demonstration, in a temporary folder that is deleted with it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.errors import PlatformError

_ACCOUNTS = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""
_MOST_CONNECTIONS = 400


@contextmanager
def database(address: str) -> Iterator[str]:
    """Yield the URL of an empty database at ``address``, to which everybody in that network may connect.

    Raises ``PlatformError`` when PostgreSQL is not installed, or does not start.
    """
    programs = _programs()
    account = _account()
    # Not below the folder of the demonstration: the account may not be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="ainode-postgresql-"))
    data = folder / "data"
    server = _Programs(programs, folder, account)
    try:
        if account:
            shutil.chown(folder, account)
        server.run("initdb", "-D", data, "-A", "trust", "-U", "ainode", "--no-sync", "--encoding", "UTF8")
        with (data / "pg_hba.conf").open("a", encoding="ascii") as file:
            file.write(f"host all all {address}/24 trust\n")
        options = f"-k {folder} -c listen_addresses={address} -c max_connections={_MOST_CONNECTIONS} -c fsync=off"
        server.run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://ainode@{address}/postgres"
        finally:
            server.run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Programs:
    """The programs of one installation, run as an account that is not root."""

    def __init__(self, folder: Path, working: Path, account: str) -> None:
        self._folder = folder
        self._working = working
        self._account = account

    def run(self, name: str, *arguments: object) -> None:
        """Run one to its end. Raises ``PlatformError`` when it fails."""
        command = [str(self._folder / name), *map(str, arguments)]
        # A server inherits these: with pipes, the end of it would be waited for.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, cwd=self._working, check=False, user=self._account or None
            )
            if done.returncode:
                output.seek(0)
                output_text = output.read().decode(errors="replace").strip()[-500:]
                raise PlatformError(f"{name} of PostgreSQL ended with status {done.returncode}: {output_text}")


def _programs() -> Path:
    program = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not program and not versions:
        raise PlatformError("several machines share a PostgreSQL; install it (Debian package postgresql)")
    return Path(program or versions[-1]).resolve().parent


def _account() -> str:
    """Return the account that runs the server; empty for the present one."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _ACCOUNTS:
        if name in known:
            return name
    raise PlatformError(f"PostgreSQL does not run as root, and there is no account {' or '.join(_ACCOUNTS)}")

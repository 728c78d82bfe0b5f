"""A PostgreSQL that is gone without a word: every wait for it ends, and nothing is lost meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from node.errors import LedgerError
from node.ledger.engine import open_ledger

HERE = Path(__file__).parents[1] / "support"


def told_by(program: str, folder: Path) -> dict[str, float]:
    """What a program of ``tests/support`` tells that runs in a network of its own."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        pytest.skip("needs root, ip, unshare and nsenter, for a network of its own")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no network namespace")
    command = ["unshare", "--net", sys.executable, str(HERE / program), str(folder)]
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, float] = json.loads((folder / "told.json").read_text())
    return told


def test_calls_end_soon_when_the_packets_of_the_server_vanish(tmp_path: Path) -> None:
    told = told_by("vanishing.py", tmp_path)
    assert told["statement"] < 60.0
    assert told["new connection"] < 60.0
    assert told["until images are refused"] < 60.0
    assert told["rows after"] < 60.0


@pytest.mark.timeout(300)
def test_rows_come_after_the_promotion_of_a_replica_that_lacks_some(tmp_path: Path) -> None:
    told = told_by("failover.py", tmp_path)
    assert told["rows"] < 60.0  # 15 s where nothing else works
    assert told["lost rows"] < 60.0


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(LedgerError, match="cannot be opened"):
            open_ledger(f"postgresql+psycopg://ainode@127.0.0.1:{silent.getsockname()[1]}/x")
        assert time.monotonic() - begun < 60.0


def test_limits_are_ours_unless_the_url_says_otherwise(postgres_server: str) -> None:
    def settings(url: str) -> tuple[dict[str, str], list[str]]:
        engine = open_ledger(url)
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            session = [
                str(connection.scalar(sa.text(f"SHOW {name}")))
                for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
            ]
            parameters = dict(raw.info.get_parameters())
        engine.dispose()
        return parameters, session

    url = postgres.new_database(postgres_server, "limits")
    parameters, session = settings(url)
    assert {name: parameters[name] for name in ("connect_timeout", "keepalives_idle", "tcp_user_timeout")} == {
        "connect_timeout": "3", "keepalives_idle": "3", "tcp_user_timeout": "7000",
    }  # fmt: skip
    assert session == ["30s", "30s", "5min"]
    own = "tcp_user_timeout=3000&connect_timeout=9&options=-c%20lock_timeout%3D7s"
    parameters, session = settings(f"{url}&{own}")
    assert (parameters["tcp_user_timeout"], parameters["connect_timeout"]) == ("3000", "9")
    assert parameters["keepalives_idle"] == "3"
    assert session == ["30s", "7s", "5min"]

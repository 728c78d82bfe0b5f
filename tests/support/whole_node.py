"""A whole node in processes of its own, as an administrator starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from real_peers import free_port

from node.errors import NotFoundError
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.tables import job
from node.operate.explain import explain

START_SECONDS = 120.0
_COMPLETED = (
    sa.select(sa.func.count())
    .select_from(job)
    .where(job.c.study_instance_uid == sa.bindparam("study"), job.c.state == "COMPLETED")
)


def configuration(
    folder: Path,
    port: int,
    pacs: tuple[str, int],
    *,
    processes: int = 2,
    storage: str = "",
    extra: str = "",
    rule: str = "",
) -> str:
    """``config.toml`` of a node on loopback with pipeline ``bright`` for CT and MR, and one destination.

    ``pacs``: its AE title and port. ``storage``: keys of that table; ``extra``: tables; ``rule``: keys of the rule.
    """
    return f"""
[ae]
address = "127.0.0.1"
port = {port}
processes = {processes}
[storage]
folder = "{folder}"
min_free_gib = 0.0
{storage}
[series]
quiet_seconds = 2.0
gap_seconds = 4.0
[jobs]
first_retry_seconds = 0.2
[devices]
use = ["cpu"]
cpu_threads = 1
[pipelines.bright]
factory = "bright_pipeline:create"
[destinations.pacs]
title = "{pacs[0]}"
host = "127.0.0.1"
port = {pacs[1]}
first_retry_seconds = 0.5
max_retry_seconds = 1.0
{extra}
[[rules]]
name = "everything with a grid"
pipelines = ["bright"]
destinations = ["pacs"]
{rule}
[rules.match]
Modality = ["CT", "MR"]
"""


class WholeNode:
    """``ainode run`` with pipeline ``bright`` for CT and MR, and one destination."""

    def __init__(
        self, folder: Path, destination_port: int, title: str = "ORTHANC", extra: str = "", rule: str = ""
    ) -> None:
        """``extra``: tables; ``rule``: keys of the rule."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.folder = folder / "data"
        self.config = folder / "config.toml"
        self._log = folder / "node.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ledger: tuple[int, sa.Engine] | None = None
        self.config.write_text(configuration(self.folder, self.port, (title, destination_port), extra=extra, rule=rule))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "node", "run", "--config", self.config],
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        seen = self.log().count("node ready")
        deadline = time.monotonic() + START_SECONDS
        while self.log().count("node ready") <= seen:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(90.0)

    def kill(self) -> None:
        """kill -9 of every process, as a power cut would."""
        if self._process is None:
            return
        try:
            everything = self.processes()
        except psutil.NoSuchProcess:
            everything = []
        for process in everything:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                process.kill()
        self._process.wait()

    def kill_role(self, role: str, seconds: float = 0.0) -> None:
        """kill -9 of one role; its supervisor starts it again. ``seconds``: how long to wait until the role runs."""
        deadline = time.monotonic() + seconds
        while True:
            for process in self._children():
                with suppress(psutil.NoSuchProcess):  # gone meanwhile
                    if process.name() == f"ainode {role}" and process.status() != psutil.STATUS_ZOMBIE:
                        os.kill(process.pid, signal.SIGKILL)
                        return
            assert time.monotonic() < deadline, f"no {role} is running"
            time.sleep(0.1)

    def role_maps(self, role: str) -> str:
        """Names of the files that the process of a role has mapped: its libraries are among them."""
        (process,) = (child for child in self._children() if child.name() == f"ainode {role}")
        return "\n".join(of.path for of in process.memory_maps())

    def processes(self) -> list[psutil.Process]:
        """The supervisor, and all that it has started."""
        assert self._process is not None
        supervisor = psutil.Process(self._process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def _children(self) -> list[psutil.Process]:
        return self.processes()[1:]

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def ainode(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A verb of the command line on this node's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "node", *arguments],
            capture_output=True,
            text=True,
            env={**self.environment, "AINODE_CONFIG": str(self.config)},
            timeout=120.0,
            check=False,
        )

    @contextmanager
    def ledger(self) -> Iterator[sa.Engine]:
        """Its ledger, without a connection that outlives a look: tests restore and delete ledgers.

        The engine of the last look has compiled the statements; another file has another engine.
        """
        file = self.folder / "ledger.sqlite"
        inode = file.stat().st_ino if file.exists() else 0
        if self._ledger is None or self._ledger[0] != inode:
            opened = open_ledger(ledger_url("", self.folder))
            self._ledger = file.stat().st_ino, opened
        engine = self._ledger[1]
        try:
            yield engine
        finally:
            engine.dispose()

    def explain(self, study_uid: str) -> dict[str, Any]:
        """What ``ainode explain`` reads; empty for a study that the ledger does not know."""
        try:
            with self.ledger() as engine:
                return explain(engine, study_uid)
        except NotFoundError:
            return {}

    def _completed(self, study_uid: str) -> int:
        """How many jobs of a study are COMPLETED."""
        with self.ledger() as engine, engine.connect() as connection:
            return connection.scalar(_COMPLETED, {"study": study_uid}) or 0

    def finished(self, study_uid: str, jobs: int, seconds: float = 120.0) -> dict[str, Any]:
        """Wait until every one of ``jobs`` jobs of a study is COMPLETED; return the explanation."""
        deadline = time.monotonic() + seconds
        while True:
            states: list[str] = []
            if self._completed(study_uid) >= jobs:  # an explanation takes ten times as long
                explanation = self.explain(study_uid)
                states = [job["state"] for series in explanation.get("series", []) for job in series["jobs"]]
                if len(states) == jobs and all(state == "COMPLETED" for state in states):
                    return explanation
            assert time.monotonic() < deadline, f"{states}\n{self.ainode('explain', study_uid).stdout}\n{self.log()}"
            time.sleep(0.5)


@contextmanager
def whole_node(folder: Path, destination_port: int, **options: Any) -> Iterator[WholeNode]:
    running = WholeNode(folder, destination_port, **options)
    try:
        running.start()
        yield running
    finally:
        running.kill()

"""Machines of a fleet on this one: each a process-id space of its own, with one role, that can be powered off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from real_peers import free_port
from receivers import Node, configuration, until

from node.config import parse

_SERIES = "\n[series]\nquiet_seconds = 3.0\ngap_seconds = 4.0\n"


class Machine:
    """One role under its supervisor, on a storage folder and a ledger that other machines may share."""

    def __init__(self, folder: Path, name: str, storage: Path, ledger_url: str = "") -> None:
        self.name = name
        self.port = free_port()
        self.config = folder / f"{name}.toml"
        ledger = f'min_free_gib = 0.0\nledger_url = "{ledger_url}"'
        self.config.write_text(configuration(storage, self.port, "processes = 1", ledger) + _SERIES)
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.node = Node(parse(self.config.read_text()))
        """What it leaves behind, read from outside."""

    def start(self, role: str = "receiver", clock_seconds: float = 0.0) -> None:
        """``clock_seconds``: how far its clock is ahead."""
        own_space = ["unshare", *(["-Ur"] if os.geteuid() else []), "--pid", "--fork", "--mount-proc", "--kill-child"]
        command = [*own_space, sys.executable, "-m", "node", "run", "--only", role, "--config", str(self.config)]
        path = [str(Path(__file__).parents[2])]
        if clock_seconds:
            path.insert(0, str(Path(__file__).with_name("shifted")))
        environment = {**os.environ, "PYTHONPATH": ":".join(path), "SHIFT_SECONDS": str(clock_seconds)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait_until_ready(self) -> None:
        until(lambda: "node ready" in self._log.read_text())

    def power_off(self) -> None:
        """End all its processes at once: the first of a process-id space takes the others with it."""
        if self._process is None:
            return
        children = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        psutil.wait_procs(children)  # the kernel ends them after their parent, later on a busy machine

    def ainode(self, *arguments: str) -> str:
        """What a verb of the command line prints on this machine."""
        verb, *rest = arguments
        command = [sys.executable, "-m", "node", verb, "--config", str(self.config), *rest]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120.0)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

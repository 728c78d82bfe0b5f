"""Machines of a fleet as an administrator starts them: a storage folder and process-id space each, no shared folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from certificates import Authority
from fleet_machines import fleet_table
from real_peers import free_port
from receivers import until
from whole_node import configuration

from node.config import parse


class FleetNode:
    """One machine with pipeline ``bright`` of ``whole_node`` and one destination."""

    def __init__(
        self, folder: Path, name: str, url: str, authority: Authority, pacs: tuple[str, int], *, storage: str = ""
    ) -> None:
        """``storage``: more lines of its table."""
        self.folder = folder / name
        self.port = free_port()
        self.config = folder / f"{name}.toml"
        self.program = Path(__file__).parents[2]
        """Where Python finds the version of the node that it runs."""
        self._folder = folder
        self._name = name
        self._processes: list[subprocess.Popen[bytes]] = []
        fleet = "\n".join(
            f"{key} = {value!r}" for key, value in fleet_table(authority, name, free_port()).items()
        ).replace("'", '"')
        self.config.write_text(
            configuration(
                self.folder,
                self.port,
                pacs,
                processes=1,
                storage=f'ledger_url = "{url}"\n{storage}',
                extra=f"[fleet]\n{fleet}",
            )
        )
        parse(self.config.read_text())

    def start(self, *roles: str) -> None:
        """Start some roles and wait until they are ready."""
        space = ["unshare", *(["-Ur"] if os.geteuid() else []), "--pid", "--fork", "--mount-proc", "--kill-child"]
        python = str(Path(__file__).parent)
        environment = {**os.environ, "PYTHONPATH": f"{self.program}:{python}", "OMP_NUM_THREADS": "1"}
        before = {role: self._starts(role) for role in roles}
        for role in roles:
            command = [*space, sys.executable, "-m", "node", "run", "--only", role, "--config", str(self.config)]
            with self._log(role).open("ab") as log:
                begun = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.program)
                self._processes.append(begun)
        for role, starts in before.items():
            until(lambda role=role, starts=starts: self._starts(role) > starts, 150.0)

    def power_off(self) -> None:
        """End all processes at once."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []

    def destroy(self) -> None:
        """Power off, and lose the disk."""
        self.power_off()
        shutil.rmtree(self.folder)

    def log(self) -> str:
        return "".join(log.read_text() for log in sorted(self._folder.glob(f"{self._name}-*.log")))

    def files(self, root: str) -> list[Path]:
        return [path for path in (self.folder / root).rglob("*") if path.is_file()]

    def ainode(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "node", *verb.split(), "--config", str(self.config), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120.0, env=environment)

    def _log(self, role: str) -> Path:
        return self._folder / f"{self._name}-{role}.log"

    def _starts(self, role: str) -> int:
        return self._log(role).read_text().count("node ready") if self._log(role).exists() else 0

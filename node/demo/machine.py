"""A machine of the demonstration: namespaces with a network, a host name, processes and mounts of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from node.demo import hospital_network
from node.errors import PlatformError
from node.process.children import bound_to_parent

ALL = "all"
"""In place of a role: ``ainode run`` with all roles under one supervisor."""
READY_SECONDS = 180.0
_ON_SECONDS = 20.0
_SPACES = ("--net", "--uts", "--mount", "--pid")
_FIRST_PROCESS = 'echo "$1" > /proc/sys/kernel/hostname; while :; do sleep 3600 & wait; done'
"""Of the machine: like any init, it reaps the processes that have lost their parent."""


class Machine:
    """One machine with a storage folder and processes of ``ainode``. It ends with the thread that switched it on."""

    def __init__(self, folder: Path, name: str, number: int) -> None:
        """``folder``: of the machine, made here; ``name``: at most 15 characters, also of its cable."""
        self.name = name
        self.number = number
        self.address = f"{hospital_network.PREFIX}.{10 + number}"
        self.port = 11112
        """DICOM port, in its own network."""
        self.folder = folder.absolute()
        self.storage = self.folder / "storage"
        """The disk."""
        self.config = self.folder / "config.toml"
        self.environment: Mapping[str, str] = {}
        """More of what its processes get."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._spaces: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of its first process, as this program sees it."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._log_began: dict[str, int] = {}
        """Where in its log each running role has begun."""

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._spaces is not None

    def switch_on(self) -> None:
        """Make the namespaces and lay the cable. Raises ``PlatformError``."""
        command = ["unshare", *_SPACES, "--fork", "--kill-child", "--mount-proc", "sh", "-c", _FIRST_PROCESS, "sh"]
        self._spaces = subprocess.Popen([*bound_to_parent("KILL"), *command, self.name])
        self.pid = _child_of(self._spaces)
        hospital_network.connect(self.name, self.number, self.pid)

    def start(self, *roles: str) -> None:
        """Start roles, or everything, without waiting."""
        for role in roles or (ALL,):
            only = [] if role == ALL else ["--only", role]
            # nsenter leaves its child behind when it is ended alone.
            command = self._within("setpriv", "--pdeathsig", "KILL", *_ainode("run", *only, "--config", self.config))
            with self._log(role).open("ab") as log:
                self._log_began[role] = log.tell()
                self._running[role] = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment())

    def wait_until_ready(self, *roles: str) -> None:
        """Wait until roles that were started are ready. Raises ``PlatformError``."""
        deadline = time.monotonic() + READY_SECONDS
        for role in roles or tuple(self._running):
            process = self._running[role]
            while not self._is_ready(role):
                if process.poll() is not None:
                    raise PlatformError(f"{self.name}: ainode ended with {process.returncode}; see {self._log(role)}")
                if time.monotonic() > deadline:
                    raise PlatformError(f"{self.name}: not ready within {READY_SECONDS:g} s; see {self._log(role)}")
                time.sleep(0.2)

    def stop(self, *roles: str, seconds: float = 90.0) -> dict[str, int]:
        """End roles, or everything, in good order; return their exit statuses."""
        stopping = {role: self._running.pop(role) for role in roles or tuple(self._running)}
        for process in stopping.values():
            with suppress(ProcessLookupError, PlatformError):
                os.kill(_child_of(process), signal.SIGTERM)
        statuses = {}
        for role, process in stopping.items():
            try:
                statuses[role] = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[role] = process.wait()
        return statuses

    def running(self) -> bool:
        """Whether no role has ended by itself."""
        return all(process.poll() is None for process in self._running.values())

    def power_off(self) -> None:
        """End everything at once; nothing that it still sends arrives."""
        if self._spaces is None:
            return
        hospital_network.remove(self.name)
        self._spaces.kill()
        for process in (self._spaces, *self._running.values()):
            process.wait()
        self._spaces, self._running = None, {}

    def destroy_disk(self) -> None:
        """Lose power, and the storage folder with all that is in it."""
        self.power_off()
        shutil.rmtree(self.storage, ignore_errors=True)

    def cut(self) -> None:
        """Pull its cable: packets vanish in both directions."""
        hospital_network.plug(self.name, connected=False)

    def repair(self) -> None:
        """Put the cable back."""
        hospital_network.plug(self.name, connected=True)

    def ainode(self, verb: str, *arguments: str, seconds: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a verb of the command line on this machine, with its configuration."""
        command = self._within(*_ainode(verb, "--config", self.config, *arguments))
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=self._environment()
        )

    def shell(self) -> str:
        """Return the command that opens a shell on this machine."""
        return f"nsenter --target {self.pid} {' '.join(_SPACES)}"

    def log(self) -> str:
        """Return what its processes have logged."""
        return "".join(log.read_text(errors="replace") for log in sorted(self.folder.glob("*.log")))

    def _within(self, *command: object) -> list[str]:
        return ["nsenter", "--target", str(self.pid), *_SPACES, "--", *map(str, command)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def _is_ready(self, role: str) -> bool:
        with self._log(role).open("rb") as log:
            log.seek(self._log_began[role])
            return b"node ready" in log.read()


def _ainode(*arguments: object) -> list[object]:
    return [sys.executable, "-P", "-m", "node", *arguments]


def _child_of(process: subprocess.Popen[bytes]) -> int:
    """Return the id of the one child of a process, once it has it. Raises ``PlatformError`` when it has ended."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + _ON_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        ids = children.read_text().split()
        if ids:
            return int(ids[0])
        time.sleep(0.01)
    raise PlatformError(f"{process.args!r} did not start")

"""All roles on one machine: starts a process for each, starts it again when it dies or hangs, stops them in order.

The roles know nothing of one another; they meet in the ledger, so any of them can be killed at any instruction.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from node.process import notify

logger = logging.getLogger(__name__)

HANG_SECONDS = 90.0
"""A role that has sent no WATCHDOG=1 for this long is killed and started again."""
FIRST_RESTART_SECONDS = 1.0
LAST_RESTART_SECONDS = 60.0
STOP_SECONDS = 60.0
"""How long a role may finish what it is doing after SIGTERM."""


@dataclass
class _Role:
    """One supervised process and the socket on which it says that it is ready and alive."""

    name: str
    command: list[str]
    channel: socket.socket
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    beat: float = 0.0
    restart_at: float = 0.0
    delay: float = field(default=FIRST_RESTART_SECONDS)

    def start(self) -> None:
        address = self.channel.getsockname().decode().replace("\0", "@")
        self.process = subprocess.Popen(self.command, env={**os.environ, "NOTIFY_SOCKET": address})
        self.ready, self.beat = False, time.monotonic()

    def listen(self) -> None:
        """Read what the process has said since the last look."""
        while True:
            try:
                words = self.channel.recv(4096).decode().split("\n")
            except BlockingIOError:
                return
            self.beat = time.monotonic()
            if "READY=1" in words:
                self.ready, self.delay = True, FIRST_RESTART_SECONDS


class Supervisor:
    """Runs ``ainode run --only ROLE`` for every role until SIGTERM or SIGINT."""

    def __init__(self, config_path: Path, roles: list[str]) -> None:
        self._roles = [self._role(name, config_path) for name in roles]
        self._stopping = False

    @staticmethod
    def _role(name: str, config_path: Path) -> _Role:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        channel.bind(f"\0ainode-{os.getpid()}-{name}")
        command = [sys.executable, "-m", "node", "run", "--config", str(config_path), "--only", name]
        return _Role(name, command, channel)

    def run(self) -> None:
        """Start all roles, say READY=1 when all are ready, keep them alive, stop them on SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for role in self._roles:
            role.start()
        announced = False
        while not self._stopping:
            for role in self._roles:
                self._look_after(role)
            if not announced and all(role.ready for role in self._roles):
                announced = True
                notify("READY=1", "STATUS=receiving")
                logger.info("node ready: %s", ", ".join(role.name for role in self._roles))
            notify("WATCHDOG=1")
            time.sleep(0.5)
        notify("STOPPING=1")
        self._stop_roles()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _look_after(self, role: _Role) -> None:
        role.listen()
        at = time.monotonic()
        if role.process is None:
            if at >= role.restart_at:
                role.start()
            return
        if role.process.poll() is None and at - role.beat > HANG_SECONDS:
            logger.error("%s has not answered for %g s; killing it", role.name, HANG_SECONDS)
            role.process.kill()
            role.process.wait()
        if (code := role.process.poll()) is not None:
            logger.error("%s ended with status %s; starting it again in %g s", role.name, code, role.delay)
            role.process, role.ready, role.restart_at = None, False, at + role.delay
            role.delay = min(role.delay * 2, LAST_RESTART_SECONDS)

    def _stop_roles(self) -> None:
        """The receiver first, so that nothing new comes in; then the others finish or are killed (and lose nothing)."""
        running = [role.process for role in self._roles if role.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

"""All roles on one machine: starts their processes, starts them again when they die or hang, replaces them on SIGHUP.

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

from node.config import Ae, Config, parse, read
from node.errors import NodeError
from node.listening import Listening
from node.process.children import descriptor_environment
from node.process.service_manager import notify
from node.retry_delay import retry_delay

logger = logging.getLogger(__name__)

HANG_SECONDS = 90.0
"""A process that has sent no WATCHDOG=1 for this long is killed and started again."""
FIRST_RESTART_SECONDS = 1.0
LAST_RESTART_SECONDS = 60.0
STOP_SECONDS = 60.0
"""How long a process may finish what it is doing after SIGTERM."""
FINISH_SECONDS = 3600.0
"""How long a replaced process may go on with what it has begun: open associations, running jobs."""
RECEIVERS_AT_MOST = 4
"""Receiver processes when their number follows the cores, two for each: while one waits for its interpreter's lock,
another works. More of them wait for the same disk."""
_LOOK_SECONDS = 0.25


@dataclass
class _Child:
    """One supervised process and the socket on which it says that it is ready and alive."""

    role: str
    command: list[str]
    descriptors: tuple[int, ...]
    inherited: tuple[int, ...] = ()
    channel: socket.socket = field(init=False)
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    beat: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    """In a row: since it was ready."""
    deadline: float = 0.0
    """Of a process that was told to end: when it is told again, less kindly."""

    def __post_init__(self) -> None:
        """A name of its own in the abstract namespace, chosen by the kernel (unix(7))."""
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.channel.bind("")

    def start(self) -> None:
        address = "@" + self.channel.getsockname()[1:].decode()
        environment = {**os.environ, "NOTIFY_SOCKET": address, **descriptor_environment(self.inherited)}
        self.process = subprocess.Popen(self.command, env=environment, pass_fds=(*self.inherited, *self.descriptors))
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
                self.ready, self.failures = True, 0

    def status(self) -> int | None:
        """How it ended, ``None`` while it runs; one that hangs is killed."""
        if self.process is None:
            return 0
        if self.process.poll() is None and time.monotonic() - self.beat > HANG_SECONDS:
            logger.error("%s has not answered for %g s; killing it", self.role, HANG_SECONDS)
            self.process.kill()
            self.process.wait()
        return self.process.poll()

    def request_end(self, number: signal.Signals, seconds: float) -> None:
        """Ask a running process to end within so many seconds."""
        self.deadline = time.monotonic() + seconds
        if self.process is not None:
            self.process.send_signal(number)


class Supervisor:
    """Runs ``ainode run --only ROLE`` for every role until SIGTERM or SIGINT.

    SIGHUP reads the configuration again. A faulty one is refused, and nothing changes. With a good one every role
    gets new processes, and its old ones are told to finish as soon as the new ones are ready.
    """

    def __init__(self, config_path: Path, roles: list[str]) -> None:
        self._path = config_path
        self._roles = roles
        self._stopping = self._reloading = False
        self._text = -1
        self._listening: Listening | None = None
        self._address: tuple[str, int] | None = None
        self._children: list[_Child] = []
        self._replaced: list[_Child] = []
        self._leaving: list[_Child] = []

    def run(self) -> None:
        """Start all roles, say READY=1 when all are ready, keep them alive, stop them on SIGTERM or SIGINT.

        Raises ``ConfigError`` for a faulty configuration, ``PlatformError`` when the address cannot be had.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        self._begin()
        announced = False
        while not self._stopping:
            if self._reloading:
                self._reloading = False
                announced = not self._begin_again()
            for child in self._children:
                self._look_after(child)
            self._retire()
            if not announced and all(child.ready for child in self._children):
                announced = True
                notify("READY=1", "STATUS=receiving")
                logger.info("node ready: %s", ", ".join(child.role for child in self._children))
            notify("WATCHDOG=1")
            time.sleep(_LOOK_SECONDS)
        notify("STOPPING=1")
        self._stop_all()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _reload(self, _number: int, _frame: object) -> None:
        self._reloading = True

    def _begin(self) -> None:
        """Processes for the configuration as the file is now; raises before anything has changed."""
        text = read(self._path)
        config = parse(text, str(self._path))
        if "receiver" in self._roles:
            self._listen(config.ae)
        if self._text >= 0:
            os.close(self._text)
        # A process that is started again gets the text that was checked, whatever the file says by then.
        self._text = os.memfd_create("config.toml")
        os.write(self._text, text.encode())
        self._replaced += self._children
        self._children = [self._child(role) for role in self._roles for _ in range(_processes(role, config))]
        for child in self._children:
            child.start()

    def _listen(self, ae: Ae) -> None:
        if self._address == (ae.address, ae.port):
            return
        listening = Listening.open(ae.address, ae.port)
        if self._listening is not None:
            self._listening.close()
        self._listening, self._address = listening, (ae.address, ae.port)

    def _begin_again(self) -> bool:
        """Whether the configuration was taken."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._begin()
        except NodeError as error:
            logger.error("configuration refused, the old one stays in force: %s", error)  # noqa: TRY400
            notify("READY=1", "STATUS=receiving; the last reload was refused, see the log")
            return False
        logger.info("configuration read again; new processes take over")
        return True

    def _child(self, role: str) -> _Child:
        program = "node.receiver_main" if role == "receiver" else "node"
        # -P: a folder `node` or `pipelines` where the command was started must not hide ours.
        python = [sys.executable, "-P", "-m", program]
        command = [*python, "run", "--config", f"/proc/self/fd/{self._text}", "--only", role]
        handed = self._listening.descriptors if role == "receiver" and self._listening is not None else ()
        return _Child(role, command, (self._text,), handed)

    def _look_after(self, child: _Child) -> None:
        child.listen()
        at = time.monotonic()
        if child.process is None:
            if at >= child.restart_at:
                child.start()
        elif (code := child.status()) is not None:
            child.failures += 1
            delay = retry_delay(child.failures, FIRST_RESTART_SECONDS, LAST_RESTART_SECONDS)
            logger.error("%s ended with status %s; starting it again in %g s", child.role, code, delay)
            child.process, child.ready, child.restart_at = None, False, at + delay

    def _retire(self) -> None:
        """Tell the replaced to finish when their successors are ready, and see them off."""
        waiting = {child.role for child in self._children if not child.ready}
        for child in [child for child in self._replaced if child.role not in waiting]:
            self._replaced.remove(child)
            self._leaving.append(child)
            child.request_end(signal.SIGUSR1, FINISH_SECONDS)
        for child in [*self._replaced, *self._leaving]:
            child.listen()
        self._replaced = [child for child in self._replaced if child.status() is None]
        self._leaving = [child for child in self._leaving if child.status() is None]
        for child in self._leaving:
            if time.monotonic() > child.deadline:
                logger.warning("%s goes on after %g s; ending it", child.role, FINISH_SECONDS)
                child.request_end(signal.SIGTERM, STOP_SECONDS)

    def _stop_all(self) -> None:
        """The receivers first, so that nothing new comes in; then all finish or are killed (and lose nothing)."""
        running = [*self._children, *self._replaced, *self._leaving]
        for child in running:
            child.request_end(signal.SIGTERM, STOP_SECONDS)
        for child in running:
            if child.process is None:
                continue
            try:
                child.process.wait(max(child.deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _processes(role: str, config: Config) -> int:
    """How many processes serve a role."""
    if role != "receiver":
        return 1
    return config.ae.processes or min(2 * len(os.sched_getaffinity(0)), RECEIVERS_AT_MOST)

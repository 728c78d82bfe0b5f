"""Supervises the role processes of one machine: start, restart after a crash or hang, replacement on SIGHUP.

The roles communicate only through the ledger, so any process can be killed at any instruction. The supervisor forks
them: it has imported what they need, once for all, so that a role starts in a fraction of a second and shares that
memory with the others. To fork safely it starts no thread and opens no database.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from node.config import Config, load
from node.errors import NodeError
from node.listening import Listening
from node.process.child_process import ChildProcess
from node.process.port_lock import PortLock
from node.process.service_manager import notify
from node.retry_delay import retry_delay
from node.spool import Spool

logger = logging.getLogger(__name__)

HANG_SECONDS = 90.0
"""A process that has sent no WATCHDOG=1 for this long is killed and restarted."""
FIRST_RESTART_SECONDS = 1.0
LAST_RESTART_SECONDS = 60.0
STOP_SECONDS = 60.0
"""How long a process may take to stop after SIGTERM."""
FINISH_SECONDS = 3600.0
"""How long a replaced process may drain: open associations, running jobs."""
RECEIVERS_AT_MOST = 4
"""Limit of the automatic number of receivers, which is two per core: one works while the other waits for its
interpreter lock. More would wait for the disk."""
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class NewProcess:
    """What a process that the supervisor has forked is to run."""

    role: str
    config: Config
    listening: Listening | None
    """For receivers."""


@dataclass
class _Child:
    """One supervised process and the socket for its notifications."""

    role: str
    config: Config
    """As it was when it was checked: a process that is started again gets the same, even if the file has changed."""
    channel: socket.socket = field(init=False)
    process: ChildProcess | None = None
    ready: bool = False
    beat: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    """In a row: since it was ready."""
    rules: str = ""
    """Number of the fleet's rules that the process has found in the file, and which it has not."""
    deadline: float = 0.0
    """When a process that was asked to end gets the next, stronger signal."""

    def __post_init__(self) -> None:
        """Bind the socket to a name in the abstract namespace that the kernel chooses (unix(7))."""
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.channel.bind("")

    def fork(self) -> bool:
        """Start the process; return true in it, false in the supervisor."""
        self.process = ChildProcess.fork(f"ainode {self.role}")
        self.ready, self.beat = False, time.monotonic()
        if self.process is None:
            os.environ["NOTIFY_SOCKET"] = "@" + self.channel.getsockname()[1:].decode()
        return self.process is None

    def read_notifications(self) -> None:
        """Read the notifications of the process since the last call."""
        while True:
            try:
                lines = self.channel.recv(4096).decode().split("\n")
            except BlockingIOError:
                return
            self.beat = time.monotonic()
            if "READY=1" in lines:
                self.ready, self.failures = True, 0
            self.rules = next((line for line in lines if line.startswith("RULES=")), self.rules)

    def status(self) -> int | None:
        """Return the exit status, ``None`` while it runs; kill a process that hangs."""
        if self.process is None:
            return 0
        if self.process.poll() is None and time.monotonic() - self.beat > HANG_SECONDS:
            logger.error("%s has not responded for %g s; killing it", self.role, HANG_SECONDS)
            self.process.end(signal.SIGKILL)
            self.process.wait()
        return self.process.poll()

    def request_end(self, number: signal.Signals, seconds: float) -> None:
        """Signal a running process to end within this time."""
        self.deadline = time.monotonic() + seconds
        if self.process is not None:
            self.process.end(number)


class Supervisor:
    """Runs a process for every role, for receivers several, until SIGTERM or SIGINT.

    SIGHUP reloads the configuration. An invalid one is rejected and changes nothing. With a valid one every role gets
    new processes, and the old ones drain as soon as the new ones are ready.
    """

    def __init__(self, config_path: Path, roles: list[str]) -> None:
        self._path = config_path
        self._roles = roles
        self._stopping = self._reloading = False
        self._waiting: set[str] | None = None
        """Roles without a running process when it was last notified; ``None``: not notified since the last start."""
        self._listening: Listening | None = None
        self._port_lock: PortLock | None = None
        self._address: tuple[str, int] | None = None
        self._rules = ""
        """For which of the fleet's rules the configuration was read again."""
        self._children: list[_Child] = []
        self._replaced: list[_Child] = []
        self._draining: list[_Child] = []

    def run(self) -> NewProcess | None:
        """Start all roles and keep them running until SIGTERM or SIGINT.

        Returns in every process that is started, too: what that is to run; ``None`` when the supervisor has ended.
        Notify READY=1 as soon as the receivers are ready (without receivers: when all roles are), and the roles that
        are not running as STATUS: a dashboard whose port is taken must not keep images out.

        Raises ``ConfigError`` for an invalid configuration, ``PlatformError`` when the address is not available.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        self._replace_all()
        gc.freeze()  # what is there now stays: a collection would copy the memory that all processes share
        gc.enable()  # the start has collected nothing
        while not self._stopping:
            if self._reloading:
                self._reloading = False
                self._reload_configuration()
            for child in self._children:
                self._supervise(child)
                if child.process is None and time.monotonic() >= child.restart_at and child.fork():
                    return self._new_process(child)
            self._retire_replaced()
            self._announce()
            notify("WATCHDOG=1")
            time.sleep(_LOOK_SECONDS)
        notify("STOPPING=1")
        self._stop_all()
        return None

    def _new_process(self, child: _Child) -> NewProcess:
        """Let go, in a process that was forked, of what belongs to the supervisor."""
        for other in [*self._children, *self._replaced, *self._draining]:
            other.channel.close()
        if self._port_lock is not None:
            self._port_lock.close()
        if child.role == "receiver":
            return NewProcess(child.role, child.config, self._listening)
        if self._listening is not None:
            self._listening.close()
        return NewProcess(child.role, child.config, None)

    def _announce(self) -> None:
        """Notify READY=1 and each change of the roles that are not running."""
        waiting = {child.role for child in self._children if not child.ready}
        if waiting == self._waiting or (waiting & {"receiver"} if "receiver" in self._roles else waiting):
            return
        missing = f"; not running: {', '.join(role for role in self._roles if role in waiting)}" if waiting else ""
        notify("READY=1", f"STATUS=receiving{missing}")
        if not waiting:
            logger.info("node ready: %s", ", ".join(child.role for child in self._children))
        self._waiting = waiting

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _reload(self, _number: int, _frame: object) -> None:
        self._reloading = True

    def _replace_all(self) -> None:
        """Have new processes of all roles, with the current configuration file; raises before it changes anything."""
        config = load(self._path)
        if "receiver" in self._roles:
            self._listen(config)
        self._replaced += self._children
        self._children = [_Child(role, config) for role in self._roles for _ in range(_processes(role, config))]
        self._waiting = None

    def _listen(self, config: Config) -> None:
        address = config.ae.address, config.ae.port
        if self._address == address:
            return
        listening, port_lock = Listening.open(*address), PortLock(Spool(config.storage.folder).folder, config.ae.port)
        port_lock.share()
        if self._listening is not None and self._port_lock is not None:
            self._listening.close()
            self._port_lock.close()
        self._listening, self._port_lock, self._address = listening, port_lock, address

    def _reload_configuration(self) -> None:
        """Apply the changed configuration if it is valid."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._replace_all()
        except NodeError as error:
            logger.error("new configuration rejected, the old one stays in force: %s", error)  # noqa: TRY400
            notify("READY=1", "STATUS=receiving; the last reload was rejected, see the log")
        else:
            logger.info("configuration reloaded; starting new processes")

    def _supervise(self, child: _Child) -> None:
        """Note what a process has reported, and whether it has ended."""
        child.read_notifications()
        if child.rules not in ("", self._rules):
            self._rules, self._reloading = child.rules, True
        child.rules = ""
        if child.process is not None and (code := child.status()) is not None:
            child.failures += 1
            delay = retry_delay(child.failures, FIRST_RESTART_SECONDS, LAST_RESTART_SECONDS)
            logger.error("%s ended with status %s; restarting it in %g s", child.role, code, delay)
            child.process, child.ready, child.restart_at = None, False, time.monotonic() + delay

    def _retire_replaced(self) -> None:
        """Drain replaced processes once their successors are ready; stop those that take too long."""
        waiting = {child.role for child in self._children if not child.ready}
        for child in [child for child in self._replaced if child.role not in waiting]:
            self._replaced.remove(child)
            self._draining.append(child)
            child.request_end(signal.SIGUSR1, FINISH_SECONDS)
        for child in [*self._replaced, *self._draining]:
            child.read_notifications()
        self._replaced = [child for child in self._replaced if child.status() is None]
        self._draining = [child for child in self._draining if child.status() is None]
        for child in self._draining:
            if time.monotonic() > child.deadline:
                logger.warning("%s is still running after %g s; stopping it", child.role, FINISH_SECONDS)
                child.request_end(signal.SIGTERM, STOP_SECONDS)

    def _stop_all(self) -> None:
        """Stop all processes, in order of the roles; kill those that exceed their deadline, which loses no data."""
        running = [*self._children, *self._replaced, *self._draining]
        for child in running:
            child.request_end(signal.SIGTERM, STOP_SECONDS)
        for child in running:
            if child.process is not None and not child.process.wait(max(child.deadline - time.monotonic(), 0.1)):
                child.process.end(signal.SIGKILL)
                child.process.wait()


def _processes(role: str, config: Config) -> int:
    """Return the number of processes of a role."""
    if role != "receiver":
        return 1
    return config.ae.processes or min(2 * len(os.sched_getaffinity(0)), RECEIVERS_AT_MOST)

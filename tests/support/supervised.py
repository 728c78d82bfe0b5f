"""The receivers of a node under their supervisor, as an administrator starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
from real_peers import free_port
from receivers import Node, configuration, until

from node.config import parse

_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
"""


class Supervised:
    """``ainode run --only receiver`` as an administrator starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.file = folder / "config.toml"
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, ae: str, storage: str = "min_free_gib = 0.0") -> None:
        self.file.write_text(configuration(self.folder / "node", self.port, ae, storage))

    def start(self, ae: str, storage: str = "min_free_gib = 0.0", activated_by: socket.socket | None = None) -> None:
        """``activated_by``: a listening socket, handed over as systemd does (sd_listen_fds(3))."""
        self.configure(ae, storage)
        command = [sys.executable, "-m", "node", "run", "--only", "receiver", "--config", str(self.file)]
        handed: tuple[int, ...] = ()
        if activated_by is not None:
            handed = (activated_by.fileno(),)
            command = [sys.executable, "-c", _ACTIVATE, str(activated_by.fileno()), *command]
        with (self.folder / "log").open("wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, pass_fds=handed)
        self.wait_for("node ready", 1)

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def receivers(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if child.status() != psutil.STATUS_ZOMBIE]

    def reload(self, ae: str) -> None:
        """SIGHUP, and wait until new processes have taken over."""
        ready = self.log().count("node ready")
        self.configure(ae)
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("node ready", ready + 1)

    def wait_for(self, words: str, times: int = 1) -> None:
        until(lambda: self.log().count(words) >= times or self.process.status() == psutil.STATUS_ZOMBIE, 90.0)
        assert self.log().count(words) >= times, self.log()

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(90.0)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            for process in [self.process, *self.process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    process.kill()
            self._process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def node(self) -> Node:
        return Node(parse(self.file.read_text()))

    def peak_mb(self) -> float:
        """The most that one receiver process has had resident, 10^6 bytes."""
        return max(_peak_mb(receiver.pid) for receiver in self.receivers())


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))

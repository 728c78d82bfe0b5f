"""What the supervisor reports to the service manager while a role cannot run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import real_peers
from dicom_files import ct_series, write
from receivers import until

TAKEN_SECONDS = 120.0


class Manager:
    """A socket like that of systemd (sd_notify(3)), and what came over it. ``reads=False``: nobody reads it."""

    def __init__(self, folder: Path, *, reads: bool = True) -> None:
        self.path = str(folder / "notify")
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        if reads:
            threading.Thread(target=self._read, daemon=True).start()

    def fill(self) -> None:
        """Send until the kernel queues no further datagram."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender, suppress(OSError):
            while True:
                sender.sendto(b"WATCHDOG=1", self.path)

    def _read(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self.lines += self._socket.recv(4096).decode().split("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextmanager
def node(folder: Path, manager: Manager, port: int, web_port: int) -> Iterator[Path]:
    config, log = folder / "config.toml", folder / "log"
    config.write_text(f"""
[ae]
address = "127.0.0.1"
port = {port}
[storage]
folder = "{folder / "data"}"
min_free_gib = 0.0
[devices]
use = ["cpu"]
[web]
enabled = true
address = "127.0.0.1"
port = {web_port}
""")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", "run", "--config", config],
            stdout=out,
            stderr=out,
            env={**os.environ, "NOTIFY_SOCKET": manager.path},
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90.0)


def test_a_taken_port_of_the_dashboard_keeps_no_image_out(tmp_path: Path) -> None:
    """Under systemd a node without READY is killed when TimeoutStartSec is over, again and again."""
    port = real_peers.free_port()
    with Manager(tmp_path) as manager, socket.create_server(("127.0.0.1", 0)) as other:
        web_port = other.getsockname()[1]
        with node(tmp_path, manager, port, web_port) as log:
            until(lambda: "READY=1" in manager.lines, TAKEN_SECONDS)
            write(ct_series(2, 16), tmp_path / "images")
            real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", port, tmp_path / "images")
            until(lambda: f"127.0.0.1:{web_port}" in log.read_text(), TAKEN_SECONDS)
            until(lambda: "STATUS=receiving; not running: web" in manager.lines, TAKEN_SECONDS)
            assert "node ready" not in log.read_text()
            other.close()
            until(lambda: "node ready" in log.read_text(), TAKEN_SECONDS)
            until(lambda: "STATUS=receiving" in manager.lines, TAKEN_SECONDS)


def test_a_service_manager_that_does_not_read_delays_no_stop(tmp_path: Path) -> None:
    """The kernel queues some datagrams; the next one of a blocking sender waits for ever."""
    with Manager(tmp_path, reads=False) as manager:
        manager.fill()
        with node(tmp_path, manager, real_peers.free_port(), real_peers.free_port()) as log:
            until(lambda: "not reported to the service manager" in log.read_text(), TAKEN_SECONDS)

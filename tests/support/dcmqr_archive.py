"""dcmtk's archive, which answers C-FIND, C-GET and C-MOVE."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import real_peers
from receivers import until


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[int]:
    """Run it on a port, as QRSCP."""
    port, store = real_peers.free_port(), folder / "QRSCP"
    store.mkdir(parents=True)
    settings = folder / "dcmqrscp.cfg"
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {store} RW (200, 2000mb) ANY\nAETable END\n"
    )
    process = subprocess.Popen(["dcmqrscp", "-c", str(settings)])
    try:
        until(lambda: _is_reached(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _is_reached(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False

"""Orders per minute that the role *orders* acknowledges durably: ``python tests/support/order_throughput.py``.

Senders are python-hl7 in processes of their own; every order is new. Afterwards each acknowledged one is in the ledger.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import sqlalchemy as sa
from hl7.client import MLLPClient
from hl7_orders import answer_of, order
from real_peers import free_port

from node.ledger.engine import open_ledger
from node.ledger.tables import imaging_order


class OrdersProcess:
    """``ainode run --only orders`` as the supervisor of a node starts it, in a folder of its own."""

    def __init__(self, folder: Path, ledger_url: str = "") -> None:
        self.port, self.folder = free_port(), folder
        self.file = folder / "config.toml"
        self.file.write_text(
            f'[storage]\nfolder = "{folder}"\nledger_url = "{ledger_url}"\n[orders]\nenabled = true\n'
            f'address = "127.0.0.1"\nport = {self.port}\nsenders = ["127.0.0.1"]\n'
        )
        self.url = ledger_url or f"sqlite:///{folder}/ledger.sqlite"

    def start(self) -> None:
        command = [sys.executable, "-m", "node", "run", "--only", "orders", "--config", str(self.file)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
        self.wait()

    def wait(self) -> None:
        """Until it takes connections."""
        until = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                return

    def kill_all(self) -> None:
        """Kill supervisor and role at one moment."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def accessions(self) -> list[str]:
        engine = open_ledger(self.url)
        with engine.connect() as connection:
            numbers = list(connection.scalars(sa.select(imaging_order.c.accession)))
        engine.dispose()
        return numbers


def _send(port: int, sender: int, seconds: float, ready: Barrier, counts: SimpleQueue[int]) -> None:
    with MLLPClient("127.0.0.1", port) as client:
        ready.wait()
        ended, number = time.monotonic() + seconds, 0
        while time.monotonic() < ended:
            name = f"{sender}-{number}"
            message = order(name, placer=f"P{name}", filler=f"F{name}", accession=f"A{name}")
            assert answer_of(client.send_message(message).decode())[0] == "AA"
            number += 1
    counts.put(number)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ledger-url", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        node = OrdersProcess(Path(folder), options.ledger_url)
        node.start()
        context = get_context("spawn")
        ready, counts = context.Barrier(options.connections), context.SimpleQueue()
        senders = [
            context.Process(target=_send, args=(node.port, number, options.seconds, ready, counts))
            for number in range(options.connections)
        ]
        for sender in senders:
            sender.start()
        sent = sum(counts.get() for _ in senders)
        for sender in senders:
            sender.join()
        node.stop()
        kept = len(node.accessions())
    assert kept == sent, (kept, sent)
    load = os.getloadavg()[0]
    rate = kept / options.seconds * 60
    sys.stdout.write(
        f"{kept} orders over {options.connections} connections in {options.seconds:g} s: {rate:.0f} a minute, each "
        f"in the ledger; load average {load:.1f} on {os.cpu_count()} cores\n"
    )


if __name__ == "__main__":
    main()

"""How well the simulation of ``ainode plan`` foretells a real node.

``python tests/support/simulated_queue.py --studies 40 --seconds 3 --busy 0.7`` starts a whole node and an Orthanc,
sends small series at random times, and prints the measured turnaround beside the simulated one for the same arrivals.
The times that encoding and delivery take are measured with a few studies before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import real_peers
from dicom_files import ct_series, write
from pydicom.uid import generate_uid
from whole_node import WholeNode, whole_node

from node.ledger.engine import ledger_url, open_ledger, snapshot
from node.ledger.turnaround import arrived_since
from node.operate.capacity.simulation import QUANTILES, served

WARM_UP = 4
EXTRA = """
[pipelines.sleeper]
factory = "node.bench.sleeper:create"
[pipelines.sleeper.options]
seconds = {seconds}
"""


def turnarounds(node: WholeNode, expected: int) -> list[tuple[float, float]]:
    """Last image and seconds to delivery of the analyses, in the order of their last image, when all are there."""
    engine = open_ledger(ledger_url("", node.folder))
    deadline = time.monotonic() + 600
    try:
        while True:
            with snapshot(engine) as connection:
                arrivals = arrived_since(connection, 0.0)
            if len(arrivals) >= expected:
                return sorted((arrival.last_image_at, arrival.seconds) for arrival in arrivals)
            assert time.monotonic() < deadline, f"{len(arrivals)} of {expected}\n{node.log()[-3000:]}"
            time.sleep(1.0)
    finally:
        engine.dispose()


def send(node: WholeNode, folder: Path) -> None:
    """One small series of its own study."""
    study = generate_uid()
    write(ct_series(n=6, size=64, study=study), folder)
    real_peers.dcmtk("dcmsend", "-aec", "AINODE", "127.0.0.1", node.port, *sorted(folder.glob("*.dcm")))


def main() -> None:
    """Send, wait, simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=3.0, help="of the network")
    parser.add_argument("--busy", type=float, default=0.7, help="share of the time in which the device shall work")
    chosen = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as temporary, real_peers.orthanc(Path(temporary) / "pacs") as pacs:
        options = EXTRA.format(seconds=chosen.seconds)
        with whole_node(Path(temporary) / "node", pacs.dicom_port, extra=options) as node:
            node.stop()
            node.config.write_text(node.config.read_text().replace('pipelines = ["bright"]', 'pipelines = ["sleeper"]'))
            node.start()
            for number in range(WARM_UP):
                send(node, Path(temporary) / f"warm-{number}")
                alone = turnarounds(node, number + 1)
            besides = statistics.median(seconds for _, seconds in alone[1:]) - chosen.seconds
            begin = time.time()
            planned = np.cumsum(rng.exponential(chosen.seconds / chosen.busy, chosen.studies))
            for number, at in enumerate(planned):
                time.sleep(max(0.0, begin + at - time.time()))
                send(node, Path(temporary) / f"study-{number}")
            last, measured = map(np.array, zip(*turnarounds(node, WARM_UP + chosen.studies)[WARM_UP:], strict=True))
    ready = np.asarray(last, float)
    simulated = served(ready, np.full(len(ready), chosen.seconds), 1) - ready + besides
    click.echo(f"alone: {chosen.seconds:g} s of network and {besides:.2f} s of everything else, with the quiet period")
    for name, values in {"measured": measured, "simulated": simulated}.items():
        shares = ", ".join(f"{share:.0%} {np.quantile(values, share):.1f} s" for share in QUANTILES)
        click.echo(f"{name}: mean {np.mean(values):.1f} s, {shares}")


if __name__ == "__main__":
    main()

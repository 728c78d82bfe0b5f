"""How fast one and two routers are, and how much memory they take.

``python tests/support/router_throughput.py --series 400 --images 20`` receives as many CT series, of a study each, in a
PostgreSQL ledger, lets one router process and then two route all of them, and prints series per second, the CPU time
of the routers for each series, and their peak memory. Each router reads headers in a process of its own: two routers
need four cores to be twice as fast. Their CPU time for each series says on any machine whether they share the work.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from pathlib import Path

import postgres
import psutil
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom.uid import generate_uid
from routing_scene import CHEST, Scene

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger.engine import open_ledger
from node.membership import Membership, new_member
from node.routing.router import Router
from node.spool import Spool

RULE = "\n".join(line for line in CHEST.splitlines() if not line.startswith("prefer"))
WARM_UP = 16
"""Studies that are routed before the clock runs: processes start with the first one."""


def route(
    config: Config,
    expected: int,
    together: threading.Barrier,
    seconds: multiprocessing.Queue[float],
    peaks: multiprocessing.Queue[float],
) -> None:
    """Be a router until every series has a decision."""
    engine = open_ledger(config.storage.ledger_url)
    member = Membership(engine, new_member("router"))
    member.begin()
    together.wait()
    member.beat()  # all are there
    router = Router(config, engine, Spool(config.storage.folder), Jobs(engine), member.is_responsible)
    used: list[float] = []
    for number in (WARM_UP, expected):
        together.wait()
        while decided(engine) < number:
            if not router.step(time.time() + 3600.0):
                time.sleep(0.05)
        used.append(computing_seconds())
        together.wait()
    seconds.put(used[1] - used[0])
    peaks.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    member.leave()
    engine.dispose()


def computing_seconds() -> float:
    """Return the CPU time of this process and of those that it has started."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in every)


def receive(scene: Scene, series: int, images: int) -> None:
    """Receive as many CT series, each of a study of its own."""
    for _ in range(series):
        scene.receive(ct_series(n=images, size=16, study=str(generate_uid())))


def decided(engine: sa.Engine) -> int:
    """How many series have a decision."""
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM decision")) or 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=400)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with postgres.cluster() as url, tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.rounds):
            for routers in (1, 2):
                name = f"routers{routers}_{number}"
                scene = Scene(Path(folder) / name, RULE, postgres.new_database(url, name))
                receive(scene, WARM_UP, 2)
                together, used, peaks = context.Barrier(routers + 1), context.Queue(), context.Queue()
                arguments = (scene.config, WARM_UP + chosen.series, together, used, peaks)
                processes = [context.Process(target=route, args=arguments) for _ in range(routers)]
                for process in processes:
                    process.start()
                for _ in range(3):  # all are there, have begun and have routed the first studies
                    together.wait()
                receive(scene, chosen.series, chosen.images)
                together.wait()
                begun = time.monotonic()
                together.wait()
                rate = chosen.series / (time.monotonic() - begun)
                milliseconds = 1000 * sum(used.get() for _ in processes) / chosen.series
                peak = max(peaks.get() for _ in processes)
                for process in processes:
                    process.join()
                shown = f"{rate:6.1f} series/s, {milliseconds:6.1f} ms of computing for each, {peak:4.0f} MiB"
                print(f"{routers} routers: {shown}")  # noqa: T201
                scene.node.engine.dispose()


if __name__ == "__main__":
    main()

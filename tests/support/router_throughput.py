"""How fast one and two routers are, and how much memory they take.

``python tests/support/router_throughput.py --series 400 --images 20`` receives as many CT series, of a study each, in
a PostgreSQL ledger, lets one router process and then two route all of them, and prints series per second, the CPU
time of the routers for each series, and the memory of the largest: before, and after each wave. Each router reads
headers in a process of its own: two routers need four cores to be twice as fast. Their CPU time for each series says
on any machine whether they share the work. ``--series 2500 --waves 10 --routers 1 --rounds 1`` says whether memory
grows over 50,000 images.
"""

from __future__ import annotations

import argparse
import multiprocessing
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
    aims: list[int],
    together: threading.Barrier,
    seconds: multiprocessing.Queue[float],
    memory: multiprocessing.Queue[list[float]],
) -> None:
    """Be a router until as many series as each of ``aims`` says have a decision."""
    engine = open_ledger(config.storage.ledger_url)
    member = Membership(engine, new_member("router"))
    member.begin()
    together.wait()
    member.beat()  # all are there
    router = Router(config, engine, Spool(config.storage.folder), Jobs(engine), member.is_responsible)
    used: list[float] = []
    megabytes: list[float] = []
    for number in aims:
        together.wait()
        while decided(engine) < number:
            if not router.step(time.time() + 3600.0):
                time.sleep(0.05)
        used.append(computing_seconds())
        megabytes.append(memory_megabytes())
        together.wait()
    seconds.put(used[-1] - used[0])
    memory.put(megabytes)
    member.leave()
    engine.dispose()


def computing_seconds() -> float:
    """Return the CPU time of this process and of those that it has started."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in every)


def memory_megabytes() -> float:
    """Return the memory that only this process and those that it has started have."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return float(sum(process.memory_full_info().uss for process in every)) / 1e6


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
    parser.add_argument("--waves", type=int, default=1, help="as many times some of them are received, then routed")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--routers", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with postgres.cluster() as url, tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.rounds):
            for routers in chosen.routers:
                name = f"routers{routers}_{number}"
                scene = Scene(Path(folder) / name, RULE, postgres.new_database(url, name))
                receive(scene, WARM_UP, 2)
                together, used, memory = context.Barrier(routers + 1), context.Queue(), context.Queue()
                each = chosen.series // chosen.waves
                aims = [WARM_UP + each * wave for wave in range(chosen.waves + 1)]
                arguments = (scene.config, aims, together, used, memory)
                processes = [context.Process(target=route, args=arguments) for _ in range(routers)]
                for process in processes:
                    process.start()
                for _ in range(3):  # all are there, have begun and have routed the first studies
                    together.wait()
                seconds = 0.0
                for _ in range(chosen.waves):
                    receive(scene, each, chosen.images)
                    together.wait()
                    begun = time.monotonic()
                    together.wait()
                    seconds += time.monotonic() - begun
                rate = chosen.series / seconds
                milliseconds = 1000 * sum(used.get() for _ in processes) / chosen.series
                largest = max((memory.get() for _ in processes), key=max)
                for process in processes:
                    process.join()
                shown = f"{rate:6.1f} series/s, {milliseconds:6.1f} ms of computing for each"
                grown = ", ".join(f"{megabytes:.0f}" for megabytes in largest)
                print(f"{routers} routers: {shown}, {grown} MB", flush=True)  # noqa: T201
                scene.node.engine.dispose()


if __name__ == "__main__":
    main()

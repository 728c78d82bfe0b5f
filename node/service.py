"""What each role of the node runs. The only place where the rooms are wired together."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import sqlalchemy as sa

from node.config import Config
from node.deliver import Deliverer, Reports, Watch
from node.errors import ConfigError
from node.jobs.conflicts import Conflicts
from node.jobs.engine import Jobs, Stage
from node.jobs.router import Router
from node.jobs.stages import Encode, Infer
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.jobs import DELIVER, Retries
from node.operate.retention import Retention
from node.process import die_with_parent, notify
from node.receive import Receiver
from node.spool import Spool
from node.supervisor import Supervisor

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
DELIVERIES_AT_ONCE = 8
"""Attempts of one sender process; a destination that hangs must not hold up the others."""
DELIVERY_RETRIES = Retries(max_attempts=None, first_seconds=5.0, max_seconds=900.0)
"""For failures outside a destination; each destination has its own delays."""


def open_storage(config: Config) -> tuple[sa.Engine, Spool]:
    """The ledger and the spool of a configuration; made when they do not exist yet."""
    spool = Spool(config.storage.folder)
    return open_ledger(ledger_url(config.storage.ledger_url, config.storage.folder)), spool


def open_jobs(config: Config) -> Jobs:
    """The jobs of a configuration's ledger, for enqueueing, retrying and cancelling."""
    engine, _ = open_storage(config)
    return Jobs(engine)


def run_node(config_path: Path) -> None:
    """All roles on this machine, supervised, until SIGTERM or SIGINT."""
    Supervisor(config_path, list(ROLES)).run()


def run_role(config: Config, role: str) -> None:
    """One role in this process until SIGTERM or SIGINT. Raises ``ConfigError`` for an unknown role."""
    if role not in ROLES:
        raise ConfigError(f"--only {role!r}: no such role; use one of {', '.join(ROLES)}")
    die_with_parent(signal.SIGTERM)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engine, spool = open_storage(config)
    with ROLES[role](config, engine, spool, stop):
        notify("READY=1")
        logger.info("%s ready, process %d", role, os.getpid())
        while not stop.wait(BEAT_SECONDS):
            notify("WATCHDOG=1")
        notify("STOPPING=1")
    engine.dispose()


@contextmanager
def _receiver(config: Config, engine: sa.Engine, spool: Spool, _stop: threading.Event) -> Iterator[None]:
    receiver = Receiver(config, engine, spool)
    receiver.start()
    yield
    receiver.stop()


@contextmanager
def _router(config: Config, engine: sa.Engine, spool: Spool, stop: threading.Event) -> Iterator[None]:
    loops = [
        Router(config, engine, spool, Jobs(engine)).run,
        Conflicts(engine, spool).run,
        Retention(config, engine, spool).run,
    ]
    threads = [threading.Thread(target=loop, args=(stop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


@contextmanager
def _worker(config: Config, engine: sa.Engine, spool: Spool, _stop: threading.Event) -> Iterator[None]:
    stages = [Infer(config, engine, spool).stage(), Encode(config, engine, spool).stage()]
    with _serving(engine, "worker", stages):
        yield


@contextmanager
def _sender(config: Config, engine: sa.Engine, spool: Spool, stop: threading.Event) -> Iterator[None]:
    def deliver(job_id: str, destination: str) -> None:
        deliverer.deliver(job_id, destination)

    deliverer = Deliverer(config, engine, spool)
    stage = Stage(name=DELIVER, handler=deliver, retries=DELIVERY_RETRIES, slots=DELIVERIES_AT_ONCE)
    with _serving(engine, "sender", [stage]) as jobs:
        loops = [Reports(config, engine).run, Watch(config, engine, jobs.hasten).run]
        threads = [threading.Thread(target=loop, args=(stop,), daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()


@contextmanager
def _serving(engine: sa.Engine, role: str, stages: list[Stage]) -> Iterator[Jobs]:
    jobs = Jobs(engine)
    jobs.serve(role, stages)
    yield jobs
    jobs.stop()


ROLES: dict[str, Callable[[Config, sa.Engine, Spool, threading.Event], AbstractContextManager[None]]] = {
    "receiver": _receiver,
    "router": _router,
    "worker": _worker,
    "sender": _sender,
}
"""What ``ainode run --only ROLE`` runs."""

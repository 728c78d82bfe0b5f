"""What each role runs. This is the only module that wires the rooms together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.actor import running
from node.config import Config
from node.ledger.states import JobStage
from node.listening import Listening
from node.process.shutdown import ShutdownSignals

if TYPE_CHECKING:  # each process imports what its own role needs; the supervisor no database
    from sqlalchemy import Engine

    from node.jobs.engine import Jobs
    from node.jobs.stage import Stage
    from node.membership import Membership
    from node.spool import Spool

CONFIG_FILE = "AINODE_CONFIG"
"""Names the file to the processes of roles: they read its text from the supervisor, as it was when it was checked."""
DELIVERIES_AT_ONCE = 8
"""Parallel attempts of one sender process; a destination that hangs must not block the others."""


@dataclass(frozen=True)
class RoleContext:
    """Configuration and resources of a role."""

    config: Config
    engine: Engine
    spool: Spool
    shutdown: ShutdownSignals
    descriptors: tuple[int, ...]
    """Descriptors from the supervisor: for receivers, those of ``Listening``."""
    membership: Membership


@contextmanager
def _receiver(context: RoleContext) -> Iterator[None]:
    from node.receive import Receiver

    config, engine, spool, copies = context.config, context.engine, context.spool, None
    if config.storage.copies > 1:
        from node.fleet.second_copy import SentCopies

        copies = SentCopies(config.fleet, engine, spool)
    listening = Listening.from_descriptors(context.descriptors)
    receiver = Receiver(config, engine, spool, context.membership, listening, copies=copies)
    receiver.start()
    yield
    receiver.finish(context.shutdown.forced)


@contextmanager
def _router(context: RoleContext) -> Iterator[None]:
    from node.feedback.collector import Collector
    from node.feedback.stop_watch import StopWatch
    from node.jobs.engine import Jobs
    from node.operate.audit.auditor import Auditor
    from node.operate.notify import Notifier
    from node.operate.records.recorder import Recorder
    from node.operate.retention import Retention
    from node.operate.traces import Tracer
    from node.routing.conflicts import Conflicts
    from node.routing.router import Router

    is_responsible = context.membership.is_responsible
    loops = [
        Router(context.config, context.engine, context.spool, Jobs(context.engine), is_responsible).run,
        Conflicts(context.engine, context.spool, is_responsible).run,
        Collector(context.engine, context.spool).run,
        StopWatch(context.config, context.engine).run,
        Recorder(context.config, context.engine, context.spool).run,
        Retention(context.config, context.engine, context.spool).run,
        Auditor(context.config, context.engine, context.spool).run,
        Notifier(context.config, context.engine, context.spool).run,
        Tracer(context.config, context.engine).run,
    ]
    with running(loops, context.shutdown.requested):
        yield


@contextmanager
def _worker(context: RoleContext) -> Iterator[None]:
    from node.deliver.prior_studies import PriorStudies
    from node.inference.encode_stage import Encode
    from node.inference.infer_stage import Infer
    from node.inference.prior_files import PriorFinder

    priors = PriorFinder(
        studies=PriorStudies(context.config, context.engine), engine=context.engine, spool=context.spool
    )
    infer = Infer(context.config, context.engine, context.spool, priors)
    context.membership.offer(infer.pipelines, infer.devices)
    stages = [infer.stage(), Encode(context.config, context.engine, context.spool).stage()]
    with _serving(context, "worker", stages):
        yield


@contextmanager
def _sender(context: RoleContext) -> Iterator[None]:
    from node.deliver import Deliverer, Reports, Watch
    from node.deliver.deliverer import RETRIES
    from node.deliver.reader_queries import ReaderQueries
    from node.inference.replacement_notes import ReplacementNotes
    from node.jobs.stage import Stage

    def deliver(job_id: str, destination: str) -> None:
        deliverer.deliver(job_id, destination)

    notes = ReplacementNotes(engine=context.engine, spool=context.spool)
    deliverer = Deliverer(context.config, context.engine, context.spool, notes=notes)
    stage = Stage(
        name=JobStage.DELIVER,
        handler=deliver,
        retries=RETRIES,
        seconds=deliverer.longest_seconds,
        owners=tuple(context.config.destinations),
        slots=DELIVERIES_AT_ONCE,
    )
    with _serving(context, "sender", [stage]) as jobs:
        loops = [
            Reports(context.config, context.engine).run,
            Watch(context.config, context.engine, jobs.make_due).run,
            ReaderQueries(context.config, context.engine).run,
        ]
        with running(loops, context.shutdown.requested):
            yield


@contextmanager
def _web(context: RoleContext) -> Iterator[None]:
    from node.operate.rules_file import FOLDER, RulesFile
    from node.web import serving

    def reload() -> None:
        os.kill(os.getppid(), signal.SIGHUP)  # the supervisor, which replaces this process as well

    rules_file = RulesFile(path=Path(os.environ[CONFIG_FILE]), folder=context.spool.folder / FOLDER, reload=reload)
    with serving(context.config, context.engine, context.spool, rules_file):
        yield


@contextmanager
def _files(context: RoleContext) -> Iterator[None]:
    from node.fleet.role import serving_fleet

    stop = context.shutdown.requested
    with serving_fleet(context.config, context.engine, context.spool, context.membership, stop):
        yield


@contextmanager
def _orders(context: RoleContext) -> Iterator[None]:
    from node.orders.listener import OrderListener

    with OrderListener(context.config, context.engine).serving():
        yield


@contextmanager
def _serving(context: RoleContext, role: str, stages: list[Stage]) -> Iterator[Jobs]:
    from node.jobs.engine import Jobs

    jobs = Jobs(context.engine)
    jobs.serve(role, stages, context.membership)
    yield jobs
    jobs.finish(context.shutdown.forced)


ROLES: dict[str, Callable[[RoleContext], AbstractContextManager[None]]] = {
    "receiver": _receiver,
    "router": _router,
    "worker": _worker,
    "sender": _sender,
    "web": _web,
    "files": _files,
    "orders": _orders,
}
"""Context manager of each role, by the name for ``ainode run --only``."""

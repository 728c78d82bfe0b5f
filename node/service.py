"""The roles of the node. This is the only module that wires the rooms together."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from node.actor import running, surviving
from node.compat import missing_packages
from node.config import Config, load
from node.errors import ConfigError, PlatformError
from node.ledger.states import JobStage, NoticeKind
from node.listening import Listening
from node.log import FOLDER, StudyLog, WarningLog, log_uncaught
from node.process.children import die_with_parent, inherited_descriptors
from node.process.control_group import prepare_delegated_group
from node.process.limits import close_to_others
from node.process.service_manager import notify
from node.process.shutdown import ShutdownSignals
from node.supervisor import Supervisor

if TYPE_CHECKING:  # each process imports what its own role needs; the supervisor no database
    from sqlalchemy import Engine

    from node.jobs.engine import Jobs
    from node.jobs.stage import Stage
    from node.ledger.members import Member
    from node.membership import Membership
    from node.spool import Spool

logger = logging.getLogger(__name__)

_CONFIG_FILE = "AINODE_CONFIG"
"""Names the file to the processes of roles: they read its text from the supervisor, as it was when it was checked."""
BEAT_SECONDS = 5.0
DELIVERIES_AT_ONCE = 8
"""Parallel attempts of one sender process; a destination that hangs must not block the others."""


def open_storage(config: Config, writer: str = "") -> tuple[Engine, Spool]:
    """Open ledger and spool of a configuration; create them if necessary. ``writer``: this process as a member."""
    from node.ledger.engine import ledger_url, open_ledger
    from node.spool import Spool

    folder, synced = config.storage.folder, config.storage.durability == "full"
    url = ledger_url(config.storage.ledger_url, folder)
    if not config.fleet.host:
        spool = Spool(folder, synced=synced, writer=writer)  # makes the folder of an SQLite ledger
        return open_ledger(url), spool
    from node.fleet.file_client import FileClient

    engine = open_ledger(url)
    others = FileClient(config.fleet, config.storage, engine)
    return engine, Spool(folder, synced=synced, writer=writer, others=others)


def open_jobs(config: Config) -> Jobs:
    """Open the jobs of a configuration's ledger, to enqueue, retry and cancel."""
    from node.jobs.engine import Jobs

    engine, _ = open_storage(config)
    return Jobs(engine)


def run_node(config_path: Path, only: str | None = None) -> None:
    """Run all roles, or one, under a supervisor until SIGTERM or SIGINT. Raises ``ConfigError`` for an unknown role.

    ``PlatformError`` when a required package is missing: every process would fail on it again and again.
    """
    if only is not None and only not in ROLES:
        raise ConfigError(f"--only {only!r}: unknown role; use one of {', '.join(ROLES)}")
    log_uncaught()
    close_to_others()
    descriptors = inherited_descriptors()
    if only is not None and descriptors is not None:  # started by the supervisor
        _run_role(load(config_path), only, descriptors)
    else:
        if missing := missing_packages():
            raise PlatformError(f"not installed: {', '.join(missing)}; install ainode again with its dependencies")
        config = load(config_path)
        logging.getLogger().addHandler(WarningLog(config.storage.folder / FOLDER))
        left_out = {
            "web": not config.web.enabled,
            "files": not config.fleet.host,
            "orders": not config.orders.enabled,
        }
        wanted = [role for role in ROLES if not left_out.get(role)]
        prepare_delegated_group()
        os.environ[_CONFIG_FILE] = str(config_path.absolute())
        Supervisor(config_path.absolute(), [only] if only else wanted).run()


def _run_role(config: Config, role: str, descriptors: tuple[int, ...]) -> None:
    """Run one role in this process until a shutdown is requested."""
    from node.membership import new_member

    die_with_parent(signal.SIGTERM)
    shutdown = ShutdownSignals()
    shutdown.install()
    member = new_member(role)
    engine, spool = open_storage(config, member.id)
    for handler in (StudyLog(spool.logs, spool.holds_study), WarningLog(spool.logs)):
        logging.getLogger().addHandler(handler)
    with (
        _watchdog(),
        _audited(config, engine, role),
        _joined(engine, spool, member) as membership,
        ROLES[role](RoleContext(config, engine, spool, shutdown, descriptors, membership)),
    ):
        notify("READY=1")
        logger.info("%s ready, process %d", role, os.getpid())
        shutdown.requested.wait()
        notify("STOPPING=1")
        with surviving("membership"):
            membership.drain()
    logger.info("%s ended, process %d", role, os.getpid())
    engine.dispose()


@contextmanager
def _watchdog() -> Iterator[None]:
    """Send WATCHDOG=1 regularly, also while the role drains."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            notify("WATCHDOG=1")

    threading.Thread(target=beat, name="beat", daemon=True).start()
    yield
    ended.set()


@contextmanager
def _joined(engine: Engine, spool: Spool, member: Member) -> Iterator[Membership]:
    """Make this process a member of the fleet until the role has ended."""
    from node.membership import Membership
    from node.spool.machine import machine_id

    membership = Membership(engine, replace(member, machine=machine_id(spool.folder)))
    membership.begin()
    yield membership
    with surviving("membership"):
        membership.leave()


@contextmanager
def _audited(config: Config, engine: Engine, role: str) -> Iterator[None]:
    """Record start and stop of the role in the audit trail."""
    from node.ledger.audit_events import give_notice

    us = f"{config.ae.title.strip()} {role}"
    give_notice(engine, NoticeKind.START, who=us)
    yield
    give_notice(engine, NoticeKind.STOP, who=us)


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

    rules_file = RulesFile(path=Path(os.environ[_CONFIG_FILE]), folder=context.spool.folder / FOLDER, reload=reload)
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

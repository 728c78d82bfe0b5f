"""Starts the node: all roles under a supervisor, or one role in this process."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from node.actor import look_every, surviving
from node.compat import missing_packages
from node.config import Config, load
from node.config.shared_keys import shared_digests
from node.errors import PlatformError
from node.ledger.states import NoticeKind
from node.log import FOLDER, StudyLog, WarningLog, log_uncaught
from node.process.children import name_process
from node.process.control_group import prepare_delegated_group
from node.process.limits import close_to_others
from node.process.service_manager import notify
from node.process.shutdown import ShutdownSignals
from node.roles import CONFIG_FILE, ROLES, load_role
from node.supervisor import NewProcess, Supervisor

if TYPE_CHECKING:  # each process imports what its own role needs; the supervisor no database
    from sqlalchemy import Engine

    from node.jobs.engine import Jobs
    from node.ledger.members import Member
    from node.membership import Membership
    from node.spool import Spool
    from node.spool.tiers import Files, OtherMachines, OtherTiers

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0


def open_storage(config: Config, writer: str = "", role: str = "") -> tuple[Engine, Spool]:
    """Open ledger and spool of a configuration; create them if necessary. ``writer``: this process as a member."""
    from node.ledger.engine import ledger_url, open_ledger
    from node.spool import Spool

    folder, synced = config.storage.folder, config.storage.durability == "full"
    url = ledger_url(config.storage.ledger_url, folder)
    spool = Spool(folder, synced=synced, writer=writer)  # makes the folder, of an SQLite ledger too
    engine = open_ledger(url)
    if (others := _other_tiers(config, engine, role)) is not None:
        spool = Spool(folder, synced=synced, writer=writer, others=others)
    return engine, spool


def _other_tiers(config: Config, engine: Engine, role: str) -> OtherTiers | None:
    """The tiers of files that are not in the storage folder; ``None``: all are there."""
    storage = config.storage
    machines: OtherMachines | None = None
    packs: Files | None = None
    if config.fleet.host:
        from node.fleet.file_client import FileClient

        machines = FileClient(config.fleet, storage, engine)
    if storage.object_store.url and role == "receiver":
        # No other program's code than it needs runs where strangers call.
        from node.object_store.fetch_process import FetchProcess

        packs = FetchProcess(storage, engine, os.environ[CONFIG_FILE])
    elif storage.object_store.url:
        from node.object_store.packed_reader import PackedReader
        from node.object_store.store import open_objects

        packs = PackedReader(storage, engine, partial(open_objects, storage.object_store))
    if machines is None and packs is None:
        return None
    from node.ledger.packed_files import recorded_elsewhere
    from node.spool.tiers import OtherTiers

    recorded = partial(recorded_elsewhere, engine, machines.machine if machines else "")
    return OtherTiers(recorded=recorded, machines=machines, packs=packs)


def open_jobs(config: Config) -> Jobs:
    """Open the jobs of a configuration's ledger, to enqueue, retry and cancel."""
    from node.jobs.engine import Jobs

    engine, _ = open_storage(config)
    return Jobs(engine)


def run_node(config_path: Path, only: str | None = None) -> None:
    """Run all roles, or one of ``ROLES``, under a supervisor until SIGTERM or SIGINT.

    Returns in every process of the node when that has ended. Raises ``PlatformError`` when a required package is
    missing: every process would fail on it again and again.
    """
    log_uncaught()
    close_to_others()
    name_process("ainode")
    if missing := missing_packages():
        raise PlatformError(f"not installed: {', '.join(missing)}; install ainode again with its dependencies")
    config = load(config_path)
    warnings = WarningLog(config.storage.folder / FOLDER)
    logging.getLogger().addHandler(warnings)
    is_enabled = {
        "web": config.web.enabled,
        "files": bool(config.fleet.host),
        "orders": config.orders.enabled,
        "dicomweb": config.dicomweb.enabled,
    }
    wanted = [only] if only else [role for role in ROLES if is_enabled.get(role, True)]
    prepare_delegated_group()
    os.environ[CONFIG_FILE] = str(config_path.absolute())
    for role in wanted:
        load_role(role)
    if new := Supervisor(config_path.absolute(), wanted).run():
        logging.getLogger().removeHandler(warnings)
        _run_role(new)


def _run_role(new: NewProcess) -> None:
    """Run one role in this process until a shutdown is requested."""
    from node.membership import new_member
    from node.roles.context import RoleContext

    role, config = new.role, new.config
    shutdown = ShutdownSignals()
    shutdown.install()
    least = config.storage.min_free_gib
    member = replace(new_member(role), configuration=shared_digests(config), min_free_gib=least)
    engine, spool = open_storage(config, member.id, role)
    for handler in (StudyLog(spool.logs, spool.holds_study), WarningLog(spool.logs)):
        logging.getLogger().addHandler(handler)
    with (
        _watchdog(),
        _audited(config, engine, role),
        _joined(engine, spool, member) as membership,
        _fleet_rules(config, engine),
        load_role(role)(RoleContext(config, engine, spool, shutdown, new.listening, membership)),
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
def _fleet_rules(config: Config, engine: Engine) -> Iterator[None]:
    """Take over what other machines publish, if there may be others."""
    if not config.storage.ledger_url:
        yield
        return
    from node.operate.fleet_rules import LOOK_SECONDS, FleetRules, RulesWatch

    rules = FleetRules.of(engine, Path(os.environ[CONFIG_FILE]), config.storage.folder)
    ended, watch = threading.Event(), RulesWatch(rules, config)
    with surviving("rules of the fleet"):
        watch.look()  # before it is ready: it counts from now on among those that take over what is published
    arguments = (LOOK_SECONDS, ended, "rules of the fleet", watch.look)
    looking = threading.Thread(target=look_every, args=arguments, name="fleet rules", daemon=True)
    looking.start()
    yield
    ended.set()
    looking.join()


@contextmanager
def _joined(engine: Engine, spool: Spool, member: Member) -> Iterator[Membership]:
    """Make this process a member of the fleet until the role has ended."""
    from node.membership import Membership
    from node.spool.free_space import SpaceReader
    from node.spool.machine import machine_id

    member = replace(member, machine=machine_id(spool.folder))
    membership = Membership(engine, member, space=SpaceReader(spool.folder).read)
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

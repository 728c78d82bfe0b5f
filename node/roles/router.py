"""Completeness and rules, and all that watches over the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from sqlalchemy import Engine

from node.actor import running
from node.feedback.collector import Collector
from node.feedback.stop_watch import StopWatch
from node.jobs.engine import Jobs
from node.operate.audit.auditor import Auditor
from node.operate.monthly_mail import MonthlyMail
from node.operate.notify import Notifier
from node.operate.purge import Retention
from node.operate.records.recorder import Recorder
from node.operate.traces import Tracer
from node.operate.urgent_messages import UrgentMessages
from node.roles.context import RoleContext
from node.roles.packing import packing_loops
from node.routing.conflicts import Conflicts
from node.routing.router import Router


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Decide what becomes of each series until the shutdown."""
    config, engine, spool = context.config, context.engine, context.spool
    is_responsible = context.membership.is_responsible
    loops = [
        Router(config, engine, spool, Jobs(engine), is_responsible).run,
        Conflicts(engine, spool, is_responsible).run,
        Collector(engine, spool, config.feedback).run,
        StopWatch(config, engine).run,
        Recorder(config, engine, spool).run,
        Retention(config, engine, spool).run,
        Auditor(config, engine, spool).run,
        Notifier(config, engine, spool).run,
        MonthlyMail(config, engine, partial(_quality_pdf, engine), is_responsible).run,
        UrgentMessages(config, engine).run,
        Tracer(config, engine).run,
        *(packing_loops(context) if not config.fleet.host else ()),  # else the role files packs what its machine has
    ]
    with running(loops, context.shutdown.requested):
        yield


def _quality_pdf(engine: Engine, month: str, at: datetime) -> bytes:
    from node.feedback.quality_pdf import monthly_quality_pdf  # ReportLab is needed once a month

    return monthly_quality_pdf(engine, month, at)

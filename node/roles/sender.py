"""Deliveries to the destinations, and the queries of PACS and worklist."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from node.actor import running
from node.deliver import Deliverer, Reports, Watch
from node.deliver.deliverer import RETRIES
from node.deliver.fetch_lists import FetchLists
from node.deliver.reader_queries import ReaderQueries
from node.deliver.workitem_events import WorkitemEvents
from node.dicomweb.archive import open_archive
from node.inference.replacement_notes import ReplacementNotes
from node.jobs.stage import Stage
from node.ledger.states import JobStage
from node.orders.ups_inputs import UpsInputs
from node.orders.ups_performer import UpsPerformer
from node.orders.worklist_queries import WorklistQueries
from node.roles.context import RoleContext
from node.roles.stages import serving

DELIVERIES_AT_ONCE = 8
"""Parallel attempts of one sender process; a destination that hangs must not block the others."""


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Deliver what has been encoded until the shutdown."""
    config, engine, spool = context.config, context.engine, context.spool

    def deliver(job_id: str, destination: str) -> None:
        deliverer.deliver(job_id, destination)

    notes = ReplacementNotes(engine=engine, spool=spool)
    deliverer = Deliverer(config, engine, spool, notes=notes)
    stage = Stage(
        name=JobStage.DELIVER,
        handler=deliver,
        retries=RETRIES,
        seconds=deliverer.longest_seconds,
        owners=tuple(config.destinations),
        slots=DELIVERIES_AT_ONCE,
    )
    archives = partial(open_archive, config, engine, spool)
    with serving(context, "sender", [stage]) as jobs:
        loops = [
            Reports(config, engine).run,
            Watch(config, engine, jobs.make_due).run,
            ReaderQueries(config, engine, archives).run,
            WorklistQueries(config, engine).run,
            UpsPerformer(config, engine).run,
            UpsInputs(config, engine, archives).run,
            WorkitemEvents(config, engine).run,
            FetchLists(config, engine, spool, archives).run,
        ]
        with running(loops, context.shutdown.requested):
            yield

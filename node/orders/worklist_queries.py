"""Asks the Modality Worklist for the orders of studies that no HL7 message brought.

The router adds the queries (``node.routing.worklist_wait``), this actor of the role *sender* answers them. A worklist
that does not answer is asked again, ever more rarely; orders that come late apply as ``node.routing.late_orders`` says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

from pynetdicom.association import Association
from sqlalchemy import Engine

from node.actor import look_every
from node.config import Config
from node.deliver.association import Peer
from node.deliver.query_audit import worklist_query_recorder
from node.errors import DeliveryError
from node.ledger.clock import clock_of
from node.ledger.clock_steps import Steady
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.ledger.orders import present_keys
from node.ledger.states import WorklistState
from node.ledger.worklist_queries import (
    WorklistQuery,
    answer_query,
    due_queries,
    give_up_queries,
    put_off_queries,
)
from node.log import about
from node.orders.worklist import search, worklist_association
from node.orders.worklist_entry import Entry, EntrySelection, choose, entry_of, identifier, searches
from node.reasons import Reason, ReasonCode, reason, reason_text
from node.retry_delay import retry_delay

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_AT_ONCE = 50
"""Queries of one association."""
_FIRST_SECONDS, _MAX_SECONDS = 2.0, 60.0
"""Between two attempts."""


class WorklistQueries:
    """Answers the queries that are due; of several processes one does."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._title = config.ae.title
        self._worklist = config.orders.worklist
        self._peer = Peer.of_worklist(self._worklist)
        self._engine = engine
        self._on_query = worklist_query_recorder(engine, self._worklist)
        self._leadership = Leadership(engine, "worklist queries")

    def run(self, stop: threading.Event) -> None:
        """Look every second until ``stop`` is set."""
        if not self._worklist.enabled:
            return
        try:
            look_every(POLL_SECONDS, stop, "worklist queries", lambda: self.step(clock_of(self._engine)))
        finally:
            self._leadership.release()

    def step(self, at: float) -> int:
        """Ask about every study that is due at ``at``; return how many were answered."""
        now = Steady(at)  # an order dated before a decision would count as one that it knew
        if not self._leadership.is_ours():
            return 0
        before = at - self._worklist.retry_hours * 3600.0
        with self._engine.connect() as connection:
            due = due_queries(connection, at, _AT_ONCE)
        if not due:
            return 0
        with begin_immediate(self._engine) as connection:
            if give_up_queries(connection, before, at):
                due = due_queries(connection, at, _AT_ONCE)
        return self._ask_all(due, now)

    def _ask_all(self, due: Sequence[WorklistQuery], now: Steady) -> int:
        waiting, answered = list(due), 0
        try:
            with worklist_association(self._worklist, self._title, self._on_query) as association:
                while waiting:
                    query = waiting[0]
                    with about(query.keys.study_instance_uid):
                        answered += self._ask(association, query, now)
                    waiting.pop(0)
        except DeliveryError as error:
            self._put_off(waiting, str(error), now())
        return answered

    def _ask(self, association: Association, query: WorklistQuery, now: Steady) -> bool:
        """Search for a study by one key after another, until an order is found. Raises ``DeliveryError``."""
        with self._engine.connect() as connection:
            images = present_keys(connection, query.keys)
        choice = EntrySelection()
        for by in searches(query.keys, query.study_date):
            answer = search(association, self._peer, identifier(by, query.keys, query.study_date))
            if answer.refusal:
                self._put_off([query], answer.refusal, now())
                return False
            entries = [self._present(entry_of(dataset)) for dataset in answer.entries]
            if answer.is_whole:
                selection = choose(entries, by, images, query.study_date, query.modality)
            else:  # it does not search by this key, and one of the others may be the order as well
                selection = EntrySelection(unrelated=frozenset(entry.order for entry in entries))
            choice = selection.with_rejected(choice)
            if choice.orders:
                break
        state, why = _outcome(choice)
        with begin_immediate(self._engine) as connection:
            answered = answer_query(connection, query, state, now(), why=why, orders=choice.orders)
        if answered:
            logger.info("worklist: %s", f"{len(choice.orders)} orders" if why is None else reason_text(why))
        return answered

    def _present(self, entry: Entry) -> Entry:
        """The entry with the ID that its patient has after all merges."""
        with self._engine.connect() as connection:
            keys = present_keys(connection, entry.order.keys)
        return replace(entry, order=replace(entry.order, keys=keys))

    def _put_off(self, queries: Sequence[WorklistQuery], failure: str, at: float) -> None:
        why = reason(ReasonCode.WORKLIST_SILENT, explanation=failure)
        logger.warning("orders of %d studies: %s; asking again later", len(queries), failure)
        with begin_immediate(self._engine) as connection:
            for query in queries:
                seconds = retry_delay(query.failures + 1, _FIRST_SECONDS, _MAX_SECONDS)
                put_off_queries(connection, [query], why, at, seconds)


def _outcome(choice: EntrySelection) -> tuple[WorklistState, Reason | None]:
    if choice.orders:
        return WorklistState.FOUND, None
    counts = {
        "patients": len(choice.of_other_patients),
        "accessions": len(choice.of_other_accessions),
        "ambiguous": len(choice.ambiguous),
        "unrelated": len(choice.unrelated),
    }
    if any(counts.values()):
        return WorklistState.NOT_TAKEN, reason(ReasonCode.WORKLIST_NOT_TAKEN, **counts)
    return WorklistState.ABSENT, reason(ReasonCode.WORKLIST_EMPTY)

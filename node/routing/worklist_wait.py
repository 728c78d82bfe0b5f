"""The router's side of the Modality Worklist: it asks about studies without an order, and waits a bounded time."""

from __future__ import annotations

from sqlalchemy import Engine

from node.config import Worklist
from node.ledger.clock_steps import AHEAD_SECONDS
from node.ledger.engine import begin_immediate
from node.ledger.order_keys import OrderKeys
from node.ledger.series import Series
from node.ledger.states import WorklistState
from node.ledger.worklist_queries import WorklistQuery, ask_worklist, has_order, query_like
from node.reasons import ReasonCode, reason
from node.routing.completeness import Deferral


class WorklistWait:
    """Adds a query for each study without an order, once; the sender has it answered."""

    def __init__(self, settings: Worklist, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine

    def of(self, series: Series, images: OrderKeys, study_date: str, at: float) -> Deferral | None:
        """Return for what and until when a series has to wait; ``None`` when it need not.

        The bound counts from the last image or the question, whichever is later: neither a restart nor a worklist that
        is down makes it longer.
        """
        if not self._settings.enabled:
            return None
        wanted = WorklistQuery(keys=images, study_date=study_date, modality=series.modality, asked_at=at)
        with self._engine.connect() as connection:
            if has_order(connection, images):
                return None
            query = query_like(connection, wanted)
        if query is None:
            with begin_immediate(self._engine) as connection:
                query = ask_worklist(connection, wanted)
        seconds = self._settings.wait_seconds
        until = max(series.last_at, query.asked_at) + seconds
        is_clock_set_back = query.asked_at > at + AHEAD_SECONDS
        if query.state != WorklistState.PENDING or at >= until or is_clock_set_back:
            return None
        return Deferral(about=reason(ReasonCode.WORKLIST_AWAITED), seconds=seconds, until=until)

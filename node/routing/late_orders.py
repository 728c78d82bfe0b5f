"""Orders that come after the images: they apply to what is not decided, and to what was ignored for lack of them.

Series that are still received get their orders from ``node.routing.router``. Jobs that were made stay as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Engine

from node.config import Rule
from node.ledger.engine import begin_immediate
from node.ledger.late_orders import apply_late_order, late_series
from node.ledger.orders import new_orders, notice_order

logger = logging.getLogger(__name__)

SETTLED_SECONDS = 3.0
"""After its message an order is looked at: a series that is being completed meanwhile has its row by then."""


class LateOrders:
    """Work of the router. Of two routers, one notices an order."""

    def __init__(self, engine: Engine, rules: Sequence[Rule]) -> None:
        self._engine = engine
        self._hurried = tuple(rule.name for rule in rules if rule.priority is None)

    def step(self, at: float) -> int:
        """Look at orders of which a message came before ``at``; return how many series are decided on again."""
        with self._engine.connect() as connection:
            orders = new_orders(connection, at - SETTLED_SECONDS)
        if not orders:
            return 0
        again = 0
        with begin_immediate(self._engine) as connection:
            for order in orders:
                if notice_order(connection, order, at):
                    again += apply_late_order(connection, order, late_series(connection, order), self._hurried, at)
        return again

"""Values of an order that rules can ask for, as ``order.NAME``; docs/orders.md describes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "order."
ORDER_VALUES = ("order.priority", "order.procedure_code", "order.procedure", "order.reason")
ORDER_PRIORITIES = ("STAT", "HIGH", "MEDIUM", "ROUTINE", "LOW")
"""Requested Procedure Priority (0040,1003), most urgent first."""
URGENT = frozenset({"STAT", "HIGH"})
FREE_TEXT = "order.reason"
"""Its values are not shown in traces: people write them."""


@dataclass(frozen=True, kw_only=True)
class OrderValues:
    """What rules can ask of one order; empty: the order does not say."""

    priority: str = ""
    """One of ``ORDER_PRIORITIES``."""
    procedure_code: str = ""
    procedure: str = ""
    reason: str = ""
    canceled: bool = False
    """It was canceled, and says nothing else: rules do not see what it said."""


def values_of_orders(path: str, orders: Iterable[OrderValues]) -> list[str]:
    """Return the values of ``path``, one of ``ORDER_VALUES``; one empty text when there is none."""
    return [value for order in orders if (value := getattr(order, path.removeprefix(PREFIX)))] or [""]


def are_urgent(orders: Iterable[OrderValues]) -> bool:
    """Return whether one of the orders is to be done before others."""
    return any(order.priority in URGENT for order in orders)

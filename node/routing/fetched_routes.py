"""Routes of studies that are fetched as time allows: the routine goes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from node.ledger.fetch_lists import is_fetched
from node.ledger.states import PRIORITIES
from node.routing.rules import Route


def goes_last(connection: Connection, study: str, *, ordered_urgent: bool) -> bool:
    """Whether a study was fetched so, and no order of today is urgent; what its headers say was of its day."""
    return not ordered_urgent and is_fetched(connection, study)


def behind_others(routes: Sequence[Route]) -> list[Route]:
    """Return the routes with low priority, whatever their rules state."""
    return [replace(route, priority=PRIORITIES["low"]) for route in routes]

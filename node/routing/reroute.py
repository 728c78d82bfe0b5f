"""Reroute: the present rules decide again on series that were ignored."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from node.ledger.engine import begin_immediate
from node.ledger.series import reopen_ignored
from node.routing.replay import Change


def newly_routed(changes: Iterable[Change], rule: str | None) -> list[Change]:
    """The changes that route a series which was ignored; with ``rule`` only those to which that rule contributes."""
    return [
        change
        for change in changes
        if not change.before
        and change.after
        and (rule is None or any(entry["rule"] == rule and entry["matched"] for entry in change.trace))
    ]


def reroute(engine: Engine, changes: Iterable[Change], at: float) -> int:
    """Open the series of ``changes`` again, for the router to decide as its next generation; return how many.

    A series that is not ignored any more is left as it is, so a second call does no harm.
    """
    reopened = 0
    for change in changes:
        with begin_immediate(engine) as connection:
            reopened += reopen_ignored(connection, change.study_instance_uid, change.series_instance_uid, at)
    return reopened

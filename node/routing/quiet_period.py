"""The quiet period after which a series is complete: of its rule, of STAT requests, or the default. Pure.

A STAT request, or a rule of high priority, waits ``stat_quiet_seconds``. What a rule states itself holds for both.
``node.routing.completeness`` says what else completes a series.
"""

from __future__ import annotations

from collections.abc import Iterable

from node.config import Rule, SeriesTable


def is_hurried(rule: Rule, *, urgent: bool) -> bool:
    """Whether what matches ``rule`` waits less; ``urgent``: the request was STAT."""
    return urgent or rule.priority == "high"


def quiet_seconds(rule: Rule, settings: SeriesTable, *, urgent: bool) -> float:
    """Quiet period after which a series that matches ``rule`` is complete."""
    if rule.quiet_seconds is not None:
        return rule.quiet_seconds
    if is_hurried(rule, urgent=urgent):
        return min(settings.stat_quiet_seconds, settings.quiet_seconds)
    return settings.quiet_seconds


def longest_quiet_seconds(
    rules: Iterable[Rule], settings: SeriesTable, *, urgent: bool, ordered_urgent: bool = False
) -> float:
    """The longest of the quiet periods of all matching rules; that of the settings when none matches.

    ``ordered_urgent``: an order is urgent, which counts for rules that state no priority.
    """
    periods = (
        quiet_seconds(rule, settings, urgent=urgent or (ordered_urgent and rule.priority is None)) for rule in rules
    )
    return max(periods, default=settings.quiet_seconds)


def shortest_quiet_seconds(rules: Iterable[Rule], settings: SeriesTable) -> float:
    """No series is complete by its quiet period before this."""
    return min((settings.quiet_seconds, *(quiet_seconds(rule, settings, urgent=True) for rule in rules)))

"""How long a rule that chooses among the series of a study waits for a better one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from node.config import Rule, SeriesTable
from node.reasons import Reason, ReasonCode, reason
from node.routing.quiet_period import is_hurried, quiet_seconds


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Facts about further series that a study may receive."""

    receiving: int
    """Series of the study that are being received."""
    last_at: float
    """When the last image of the study was stored, seconds since 1970 UTC."""
    expected: Reason | None = None
    """Who may send another series; ``None`` when nobody is known to."""
    whole: Reason | None = None
    """Who says that every series is here; ``None`` when nobody does."""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a rule may choose among the series of a study, and why."""

    ready: bool
    reason: Reason
    awaited: Reason | None = None
    """Which sender or procedure step is waited for; ``None`` when only time has to pass."""


def may_choose(rule: Rule, outlook: Outlook, settings: SeriesTable, at: float, *, urgent: bool) -> Readiness:
    """Whether ``rule`` may choose the best series of a study at ``at``.

    It chooses as soon as nothing better is expected, and waits for what is expected at most ``study_quiet_seconds``
    after the last image. A hurried rule waits only for what is being received.
    """
    if outlook.receiving:
        return Readiness(ready=False, reason=reason(ReasonCode.SERIES_RECEIVING, series=outlook.receiving))
    silence = at - outlook.last_at
    if outlook.whole:
        return Readiness(ready=True, reason=outlook.whole)
    hurried = is_hurried(rule, urgent=urgent)
    if outlook.expected and not hurried and silence < settings.study_quiet_seconds:
        awaited = {**outlook.expected, "seconds": settings.study_quiet_seconds}
        return Readiness(ready=False, reason=awaited, awaited=awaited)
    quiet = quiet_seconds(rule, settings, urgent=urgent) if rule.prefer_seconds is None else rule.prefer_seconds
    if hurried:
        quiet = min(quiet, settings.stat_quiet_seconds)
    if silence < quiet:
        return Readiness(ready=False, reason=reason(ReasonCode.STUDY_SILENT, silence=silence, seconds=quiet))
    return Readiness(ready=True, reason=reason(ReasonCode.STUDY_QUIET, seconds=quiet, although=outlook.expected))

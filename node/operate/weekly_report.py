"""The report of a week that operators get by mail: analyses, turnaround, verdicts of readers, and what needs attention.

It names pipelines, scanners and destinations, and no patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta

import sqlalchemy as sa

from node.config import Config
from node.config.notify import WEEKDAYS
from node.ledger.counts import files_received_since, job_counts
from node.ledger.turnaround import arrived_since, stages_by_pipeline
from node.ledger.verdict_counts import counted_verdicts
from node.operate.stage_text import stage_text
from node.operate.turnaround import DAY_SECONDS, median_stages, turnarounds

WEEK_SECONDS = 7 * DAY_SECONDS
_HOUR = time(7)
"""Local time of the mail."""


def due_at(day: str, at: datetime) -> datetime:
    """Return when the latest report was due: the last ``day`` of the week at 7:00 local time."""
    date = at.date() - timedelta(days=(at.weekday() - WEEKDAYS.index(day)) % 7)
    if date == at.date() and at.time() < _HOUR:
        date -= timedelta(days=7)
    return datetime.combine(date, _HOUR).astimezone()  # of that day: summer time may begin or end in between


def weekly_report(config: Config, connection: sa.Connection, until: float, alerts: Mapping[str, str]) -> str:
    """Return the text of the week before ``until`` (seconds since 1970 UTC); ``alerts``: what needs attention now."""
    since = until - WEEK_SECONDS
    first, last = (datetime.fromtimestamp(at).astimezone() for at in (since, until))
    parts = (
        ("Received", [f"{files_received_since(connection, since).files} images"]),
        ("Analyses", list(_analyses(config, connection, since))),
        ("Turnaround, from the last image to the proof of delivery", list(_turnaround(config, connection, since))),
        ("Verdicts of readers on lesions of these analyses", list(_verdicts(config, connection, since))),
        ("Needs attention now", list(alerts.values())),
    )
    lines = [f"AI node {config.ae.title}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"]
    for heading, sentences in parts:
        lines += ["", heading, *(f"  {sentence}" for sentence in sentences or ["none"])]
    return "\n".join(lines)


def _analyses(config: Config, connection: sa.Connection, since: float) -> Iterator[str]:
    ends: dict[str, Counter[str]] = {}
    for count in job_counts(connection, since):
        if count.recent:
            ends.setdefault(count.pipeline, Counter())[count.outcome or str(count.progress())] += count.recent
    for pipeline, numbers in sorted(ends.items()):
        each = ", ".join(f"{number} {end}" for end, number in sorted(numbers.items()))
        yield f"{config.title(pipeline)}: {numbers.total()} ({each})"


def _turnaround(config: Config, connection: sa.Connection, since: float) -> Iterator[str]:
    arrived = arrived_since(connection, since)
    for turnaround in turnarounds(arrived):
        scanner = f" of {turnaround.scanner}" if turnaround.scanner else ""
        yield (
            f"{config.title(turnaround.pipeline)}{scanner}: {turnaround.analyses} analyses, "
            f"median {turnaround.quantiles[0.5]:.0f} s, "
            f"90 % within {turnaround.quantiles[0.9]:.0f} s, longest {turnaround.longest:.0f} s"
        )
    for pipeline, staged in sorted(stages_by_pipeline(connection, arrived).items()):
        yield f"{config.title(pipeline)}, medians: {stage_text(median_stages(staged))}"


def _verdicts(config: Config, connection: sa.Connection, since: float) -> Iterator[str]:
    given: dict[str, Counter[str]] = {}
    for group, verdicts in counted_verdicts(connection, [since]).items():
        given.setdefault(group.pipeline, Counter()).update(verdict.verdict for verdict in verdicts)
    for pipeline, numbers in sorted(given.items()):
        each = ", ".join(f"{number} {verdict}" for verdict, number in sorted(numbers.items()))
        yield f"{config.title(pipeline)}: {each}"

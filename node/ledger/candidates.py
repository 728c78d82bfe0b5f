"""Candidates: series that a rule of studies compares with others, and companions that it looks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from node.ledger.states import SeriesState
from node.ledger.tables import candidate, series
from node.reasons import Reason


class WaitingRule(NamedTuple):
    """A rule that has not decided on a series of a study."""

    study_instance_uid: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class StoredCandidate:
    """One candidate of a rule, with the state of its series."""

    series_instance_uid: str
    generation: int
    companion: str
    """Name of the companion; ``""``: it matches the rule itself."""
    marks: tuple[tuple[float, Reason | str], ...]
    region: Mapping[str, Any] | None
    urgent: bool
    complete_at: float
    complete: bool
    """No further images have begun to arrive."""
    decided: bool
    chosen: bool
    modality: str


def record_candidates(
    connection: sa.Connection,
    study: str,
    series_uid: str,
    *,
    generation: int,
    at: float,
    weights: Sequence[Mapping[str, Any]],
) -> None:
    """Replace the candidates of a series that is complete since ``at``.

    ``weights``: ``rule``, ``companion``, ``marks``, ``region`` and ``urgent`` of each.
    """
    key = {"study_instance_uid": study, "series_instance_uid": series_uid}
    connection.execute(sa.delete(candidate).where(*(candidate.c[name] == uid for name, uid in key.items())))
    if weights:
        same = {**key, "generation": generation, "complete_at": at}
        connection.execute(sa.insert(candidate), [{**same, **weight} for weight in weights])


def waiting_rules(connection: sa.Connection) -> list[WaitingRule]:
    """Rules that have not decided on all of their candidates."""
    rows = connection.execute(
        sa.select(candidate.c.study_instance_uid, candidate.c.rule)
        .where(candidate.c.companion == "", candidate.c.decided_at.is_(None))
        .distinct()
    )
    return [WaitingRule(*row) for row in rows]


def candidates_of(connection: sa.Connection, study: str, rule: str) -> list[StoredCandidate]:
    """Every candidate of a rule in a study."""
    rows = connection.execute(
        sa.select(candidate, series.c.state, series.c.modality)
        .join(
            series,
            sa.and_(
                series.c.study_instance_uid == candidate.c.study_instance_uid,
                series.c.series_instance_uid == candidate.c.series_instance_uid,
            ),
        )
        .where(candidate.c.study_instance_uid == study, candidate.c.rule == rule)
    )
    return [
        StoredCandidate(
            series_instance_uid=row.series_instance_uid,
            generation=row.generation,
            companion=row.companion,
            marks=tuple((float(number), what) for number, what in row.marks),
            region=row.region,
            urgent=row.urgent,
            complete_at=row.complete_at,
            complete=row.state == SeriesState.COMPLETE,
            decided=row.decided_at is not None,
            chosen=bool(row.chosen),
            modality=row.modality,
        )
        for row in rows
    ]


def decide_candidate(
    connection: sa.Connection, study: str, series_uid: str, *, rule: str, generation: int, chosen: bool, at: float
) -> bool | None:
    """Keep whether a rule chose a series; return whether its request was STAT.

    ``None``, and nothing written, when an image came in between or another router was faster.
    """
    return connection.scalar(
        sa.update(candidate)
        .where(
            candidate.c.study_instance_uid == study,
            candidate.c.series_instance_uid == series_uid,
            candidate.c.rule == rule,
            candidate.c.companion == "",
            candidate.c.generation == generation,
            candidate.c.decided_at.is_(None),
        )
        .values(decided_at=at, chosen=chosen)
        .returning(candidate.c.urgent)
    )

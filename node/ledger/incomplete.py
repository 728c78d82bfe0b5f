"""Incomplete generations: known missing images, and the outcomes that they allow."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.jobs import NewJob
from node.ledger.tables import decision
from node.outcome import Outcome
from node.reasons import Reason, ReasonCode, reason, reason_text

_EXPLAINED = frozenset({Outcome.NOT_APPLICABLE, Outcome.FAILED})
"""Outcomes that say nothing about the images; any other would say more than was seen."""


def incomplete_of(connection: sa.Connection, new: NewJob) -> tuple[Reason | None, Reason | None]:
    """What is missing and what may be missing from the images of a job, its companions included."""
    missing, doubtful = _of_series(connection, new, new.series_instance_uid, new.generation)
    of = {name: _of_series(connection, new, uid, None) for name, uid in new.companions.items()}
    if of_companions := {name: incomplete for name, (incomplete, _) in of.items() if incomplete}:
        missing = reason(ReasonCode.INCOMPLETE_COMPANIONS, own=missing, companions=of_companions)
    if of_companions := {name: caveat for name, (_, caveat) in of.items() if caveat}:
        doubtful = reason(ReasonCode.CAVEAT_COMPANIONS, own=doubtful, companions=of_companions)
    return missing, doubtful


def outcome_of_incomplete(
    outcome: str, why: Reason | None, incomplete: Reason | str | None
) -> tuple[str, Reason | None]:
    """Return the outcome and reason that an analysis of an incomplete series may have.

    This is the one place through which every outcome of a job goes: with images that are known to be missing it is
    *partial*, unless the images were not analysed at all, and its reason begins with what is missing.
    """
    if not incomplete:
        return outcome, why
    missing = _as_reason(incomplete)
    if outcome in _EXPLAINED and reason_text(missing) in reason_text(why):
        return outcome, why
    parts = (why, missing) if outcome in _EXPLAINED else (missing, why)
    why = reason(ReasonCode.TOGETHER, parts=[part for part in parts if part])
    return outcome if outcome in _EXPLAINED else Outcome.PARTIAL, why


def _of_series(
    connection: sa.Connection, new: NewJob, series_uid: str, generation: int | None
) -> tuple[Reason | None, Reason | None]:
    query = (
        sa.select(decision.c.incomplete, decision.c.caveat)
        .where(decision.c.study_instance_uid == new.study_instance_uid, decision.c.series_instance_uid == series_uid)
        .order_by(decision.c.generation.desc())
    )
    if generation is not None:
        query = query.where(decision.c.generation == generation)
    row = connection.execute(query).first()
    return (_as_reason(row.incomplete), _as_reason(row.caveat)) if row is not None else (None, None)


def _as_reason(stored: Reason | str | None) -> Reason | None:
    """A sentence of version 1.0.0 becomes a quotation."""
    return reason(ReasonCode.STATED, text=stored) if isinstance(stored, str) else stored

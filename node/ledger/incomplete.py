"""Incomplete generations: known missing images, and the outcomes that they allow."""

from __future__ import annotations

import sqlalchemy as sa

from node.config.routing import Outcome
from node.ledger.jobs import NewJob
from node.ledger.tables import decision
from node.wording import together

_EXPLAINED = frozenset({Outcome.NOT_APPLICABLE, Outcome.FAILED})
"""Outcomes that say nothing about the images; any other would say more than was seen."""


def incomplete_of(connection: sa.Connection, new: NewJob) -> tuple[str, str]:
    """What is missing and what may be missing from the images of a job, its companions included; "" when nothing is."""
    incomplete, caveat = _of_series(connection, new, new.series_instance_uid, new.generation)
    missing, doubtful = [incomplete], [caveat]
    for name, series_uid in new.companions.items():
        incomplete, caveat = _of_series(connection, new, series_uid, None)
        missing.append(incomplete and f"companion series {name}: {incomplete}")
        doubtful.append(caveat and f"Companion series {name}: {caveat}")
    return "; ".join(filter(None, missing)), " ".join(filter(None, doubtful))


def outcome_of_incomplete(outcome: str, reason: str, incomplete: str) -> tuple[str, str]:
    """Return the outcome and reason that an analysis of an incomplete series may have.

    This is the one place through which every outcome of a job goes: with images that are known to be missing it is
    *partial*, unless the images were not analysed at all, and its reason begins with what is missing.
    """
    if not incomplete:
        return outcome, reason
    if incomplete not in reason:
        parts = (reason, incomplete) if outcome in _EXPLAINED else (incomplete, reason)
        reason = together(*parts)
    return outcome if outcome in _EXPLAINED else Outcome.PARTIAL, reason


def _of_series(connection: sa.Connection, new: NewJob, series_uid: str, generation: int | None) -> tuple[str, str]:
    query = (
        sa.select(decision.c.incomplete, decision.c.caveat)
        .where(decision.c.study_instance_uid == new.study_instance_uid, decision.c.series_instance_uid == series_uid)
        .order_by(decision.c.generation.desc())
    )
    if generation is not None:
        query = query.where(decision.c.generation == generation)
    row = connection.execute(query).first()
    return (row.incomplete or "", row.caveat or "") if row is not None else ("", "")

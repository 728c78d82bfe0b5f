"""Held series and jobs, whose images contradict one another on identity; they wait for an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import NodeError
from node.ledger.states import ConflictKind, DecisionOutcome, WithoutAnalysis
from node.ledger.tables import conflict, decision, instance, job, series
from node.reasons import Reason, reason_text


@dataclass(frozen=True, kw_only=True)
class Held:
    """A complete series, or an analysis of it."""

    study_instance_uid: str
    series_instance_uid: str
    job_id: str
    """``""``: the series as such; no job was made of it."""
    reason: Reason | str
    """Names attributes, never values."""


def held(connection: sa.Connection, study: str | None = None) -> list[Held]:
    """Return held series of one study or of all, in their latest generation."""
    of_series = sa.select(
        decision.c.study_instance_uid, decision.c.series_instance_uid, sa.literal(""), decision.c.reason
    )
    of_job = sa.select(job.c.study_instance_uid, job.c.series_instance_uid, job.c.id, job.c.reason)
    names = Held.__dataclass_fields__
    held_series: list[Held] = []
    for table, outcome, chosen in ((decision, DecisionOutcome.HELD, of_series), (job, WithoutAnalysis.HELD, of_job)):
        latest = sa.and_(
            series.c.study_instance_uid == table.c.study_instance_uid,
            series.c.series_instance_uid == table.c.series_instance_uid,
            series.c.generation == table.c.generation,
        )
        of_study = sa.true() if study is None else table.c.study_instance_uid == study
        query = chosen.join(series, latest).where(table.c.outcome == outcome, of_study)
        rows = connection.execute(query.order_by(table.c.study_instance_uid, table.c.series_instance_uid))
        held_series += [Held(**dict(zip(names, row, strict=True))) for row in rows]
    return held_series


def contradicting_images(of: Held) -> list[str]:
    """SOP Instance UIDs of the first images that differ from most of a held series; empty when none is named."""
    return list(of.reason.get("others", ())) if isinstance(of.reason, Mapping) else []


def refuse_held(connection: sa.Connection, study: str, series_instance_uid: str) -> None:
    """Raise ``NodeError`` when a series is held: nothing of it is analysed or sent, not even by hand."""
    for held_series in held(connection, study):
        if held_series.series_instance_uid == series_instance_uid and not held_series.job_id:
            raise NodeError(
                f"series {series_instance_uid} is held: {reason_text(held_series.reason)}; correct it at the sender "
                "and send all its images again, or take the images of others out of it: `ainode exclude`"
            )


def sent_again(connection: sa.Connection) -> dict[tuple[str, str], dict[str, str]]:
    """Return held series received again with another identity, by key: the latest file of each image, by UID."""
    again = sa.and_(
        conflict.c.sop_instance_uid == instance.c.sop_instance_uid,
        conflict.c.study_instance_uid == instance.c.study_instance_uid,
        conflict.c.series_instance_uid == instance.c.series_instance_uid,
        conflict.c.kind == ConflictKind.IDENTITY,
        conflict.c.replaced_at.is_(None),
    )
    latest: dict[tuple[str, str], dict[str, str]] = {}
    for held_series in held(connection):
        where = (
            instance.c.study_instance_uid == held_series.study_instance_uid,
            instance.c.series_instance_uid == held_series.series_instance_uid,
        )
        rows = connection.execute(
            sa.select(instance.c.sop_instance_uid, instance.c.path, conflict.c.path.label("later"))
            .outerjoin(conflict, again)
            .where(*where)
            .order_by(conflict.c.received_at)
        ).all()
        if any(row.later for row in rows):
            key = (held_series.study_instance_uid, held_series.series_instance_uid)
            latest[key] = {row.sop_instance_uid: row.later or row.path for row in rows}
    return latest

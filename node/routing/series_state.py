"""State of a series that is being received: senders, lists of instances, procedure steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger import ProcedureStepState
from node.ledger.instances import equipment_of
from node.ledger.tables import (
    association,
    commitment,
    commitment_instance,
    instance,
    procedure_step,
    procedure_step_instance,
    series,
)
from node.routing.completeness import Listing
from node.routing.known_missing import Missing, missing_of


@dataclass(frozen=True, kw_only=True)
class Known:
    """Facts of one series at one moment."""

    paths: Mapping[str, str]
    """SOP Instance UID -> path, in the order of arrival."""
    senders: frozenset[str]
    """Open associations that have sent an image of it."""
    listings: tuple[Listing, ...]
    in_progress: str
    """Which procedure step is IN PROGRESS, in words."""
    discontinued: str
    """Which procedure step that made it was discontinued, in words."""
    unrelated: tuple[str, ...]
    """Steps and requests about it, in words, that came from another device than its images: they do not count."""
    missing: Missing


def listed_series(connection: sa.Connection) -> set[tuple[str, str]]:
    """Return the series being received for which a list of instances exists."""
    key = (series.c.study_instance_uid, series.c.series_instance_uid)
    steps = (
        sa.select(*key)
        .join(procedure_step_instance, procedure_step_instance.c.series_instance_uid == series.c.series_instance_uid)
        .where(series.c.state == "RECEIVING")
    )
    requests = (
        sa.select(*key)
        .join(
            instance,
            sa.and_(
                instance.c.study_instance_uid == series.c.study_instance_uid,
                instance.c.series_instance_uid == series.c.series_instance_uid,
            ),
        )
        .join(commitment_instance, commitment_instance.c.sop_instance_uid == instance.c.sop_instance_uid)
        .where(series.c.state == "RECEIVING")
    )
    return {(row[0], row[1]) for row in connection.execute(sa.union(steps, requests))}


def known_of(connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Known:
    """Everything about the series of a row of ``series``."""
    of = sa.and_(
        instance.c.study_instance_uid == row.study_instance_uid,
        instance.c.series_instance_uid == row.series_instance_uid,
    )
    files = sa.select(instance.c.sop_instance_uid, instance.c.path).where(of).order_by(instance.c.received_at)
    paths = {row.sop_instance_uid: row.path for row in connection.execute(files)}
    senders = frozenset(
        connection.scalars(
            sa.select(association.c.id)
            .join(instance, instance.c.association_id == association.c.id)
            .where(of, association.c.closed_at.is_(None))
            .distinct()
        )
    )
    device = equipment_of(connection, row.study_instance_uid, row.series_instance_uid)
    every = _steps(connection, row)
    steps = [step for step in every if device and step.equipment == device]
    requests = _requests(connection, of, set(paths), senders)
    completed = _completed(
        connection, row, [step for step in steps if step.state == ProcedureStepState.COMPLETED], paths
    )
    return Known(
        paths=paths,
        senders=senders,
        listings=(*completed, *(listing for by, listing in requests if device and by == device)),
        in_progress=next((_words(step) for step in steps if step.state == ProcedureStepState.IN_PROGRESS), ""),
        discontinued=""
        if completed
        else next((_words(step) for step in steps if step.state == ProcedureStepState.DISCONTINUED), ""),
        unrelated=(
            *(f"{_words(step)} ({step.equipment or 'unknown device'})" for step in every if step not in steps),
            *(f"{listing.by} ({by or 'unknown device'})" for by, listing in requests if not device or by != device),
        ),
        missing=missing_of(connection, str(row.study_instance_uid), str(row.series_instance_uid)),
    )


def _steps(connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> list[sa.Row[tuple[object, ...]]]:
    """Procedure steps that made the series, or may have: they name it, or no series at all and began before it came."""
    named = sa.select(procedure_step_instance).where(
        procedure_step_instance.c.procedure_step_uid == procedure_step.c.sop_instance_uid
    )
    this = named.where(procedure_step_instance.c.series_instance_uid == row.series_instance_uid)
    may_have = sa.and_(
        ~named.exists(),
        procedure_step.c.state != ProcedureStepState.COMPLETED,
        procedure_step.c.modality.in_(("", row.modality)),
        procedure_step.c.created_at <= row.last_at,
    )
    query = (
        sa.select(procedure_step)
        .where(procedure_step.c.study_instance_uid == row.study_instance_uid, sa.or_(this.exists(), may_have))
        .order_by(procedure_step.c.created_at)
    )
    return list(connection.execute(query))


def _completed(
    connection: sa.Connection,
    row: sa.Row[tuple[object, ...]],
    steps: list[sa.Row[tuple[object, ...]]],
    paths: Mapping[str, str],
) -> list[Listing]:
    """All lists of completed steps as one: several may have added to a series."""
    if not steps:
        return []
    query = sa.select(procedure_step_instance.c.sop_instance_uid).where(
        procedure_step_instance.c.procedure_step_uid.in_([step.sop_instance_uid for step in steps]),
        procedure_step_instance.c.series_instance_uid == row.series_instance_uid,
        procedure_step_instance.c.sop_instance_uid != "",
    )
    named = set(connection.scalars(query))
    absent, unnamed = len(named - paths.keys()), len(paths.keys() - named)
    return [Listing(by=_words(steps[-1]), named=len(named), absent=absent, unnamed=unnamed)]


def _requests(
    connection: sa.Connection, of: sa.ColumnElement[bool], here: set[str], senders: frozenset[str]
) -> list[tuple[str, Listing]]:
    """Storage Commitment requests that name images of the series, two at least, with the device that asks."""
    key = (commitment_instance.c.calling_ae, commitment_instance.c.transaction_uid)
    naming = (
        sa.select(*key, commitment.c.association_id, commitment.c.equipment)
        .join(instance, instance.c.sop_instance_uid == commitment_instance.c.sop_instance_uid)
        .join(commitment, sa.and_(commitment.c.calling_ae == key[0], commitment.c.transaction_uid == key[1]))
        .where(of)
        .distinct()
    )
    listings = []
    for request in connection.execute(naming).all():
        named_here = (
            sa.select(commitment_instance.c.sop_instance_uid, instance.c.path)
            .outerjoin(instance, instance.c.sop_instance_uid == commitment_instance.c.sop_instance_uid)
            .where(key[0] == request.calling_ae, key[1] == request.transaction_uid)
        )
        named = {one.sop_instance_uid: one.path for one in connection.execute(named_here)}
        if len(named) > 1:
            listing = Listing(
                by=f"a Storage Commitment request of {request.calling_ae}",
                named=len(named),
                absent=sum(path is None for path in named.values()),
                unnamed=len(here - named.keys()),
                other_senders=len(senders - {request.association_id}),
            )
            listings.append((str(request.equipment or ""), listing))
    return listings


def _words(step: sa.Row[tuple[object, ...]]) -> str:
    return f"the {step.state} procedure step of {step.calling_ae}"

"""Changes of patients in the information system: merges (ADT^A40) and updates (ADT^A08).

A file is never changed, so a merge changes nothing of images that are here: they take the new identity when they are
sent again (``node.ledger.corrections``). Until then an operator sees which studies carry an ID that has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.new_orders import NewPatientChange
from node.ledger.order_keys import issuers_differ
from node.ledger.tables import imaging_order, patient_change, series_request

_LONGEST_CHAIN = 16
"""Merges of one patient that are followed; a circle ends here, too."""


class ChangeKind(StrEnum):
    """What happened to a patient."""

    MERGE = "merge"
    UPDATE = "update"


@dataclass(frozen=True, kw_only=True)
class ChangedStudy:
    """A study whose images carry the identity of before a change."""

    study_instance_uid: str
    kind: ChangeKind
    at: float
    """When the change was received."""


def record_changes(connection: sa.Connection, changes: Iterable[NewPatientChange], message_id: str, at: float) -> None:
    """Keep changes; orders of a merged patient belong to the one that remains.

    Of updates, which are many, only the last one of a patient with images here is kept.
    """
    for number, new in enumerate(changes):
        kind = ChangeKind.MERGE if new.prior_id else ChangeKind.UPDATE
        if kind == ChangeKind.UPDATE and not _replace_update(connection, new):
            continue
        insert_new(
            connection, patient_change, [{"id": f"{message_id}/{number}", "kind": kind, "received_at": at, **vars(new)}]
        )
        if kind != ChangeKind.MERGE:
            continue
        rows = connection.execute(
            sa.select(imaging_order.c.id, imaging_order.c.patient_issuer).where(
                imaging_order.c.patient_id == new.prior_id
            )
        ).all()
        ids = [row.id for row in rows if not issuers_differ(row.patient_issuer, new.prior_issuer)]
        moved = {"patient_id": new.patient_id, "patient_issuer": new.patient_issuer}
        connection.execute(sa.update(imaging_order).where(imaging_order.c.id.in_(ids)).values(**moved))


def _replace_update(connection: sa.Connection, new: NewPatientChange) -> bool:
    """Delete the last update of a patient; return whether images of the patient are here."""
    names = ("patient_id", "patient_issuer")
    before = [patient_change.c[name] == getattr(new, name) for name in names]
    connection.execute(sa.delete(patient_change).where(patient_change.c.kind == ChangeKind.UPDATE, *before))
    here = sa.select(series_request.c.patient_id).where(series_request.c.patient_id == new.patient_id).limit(1)
    return connection.scalar(here) is not None


def present_identity(connection: sa.Connection, patient_id: str, issuer: str) -> tuple[str, str]:
    """Return ID and issuer that a patient has after all merges."""
    for _ in range(_LONGEST_CHAIN if patient_id else 0):
        merge = _latest_merge(connection, patient_id, issuer)
        if merge is None:
            break
        patient_id, issuer = merge
    return patient_id, issuer


def _latest_merge(connection: sa.Connection, patient_id: str, issuer: str) -> tuple[str, str] | None:
    """Return into whom a patient was merged; ``None`` when the ID is in use, or was used again since."""
    query = (
        sa.select(patient_change)
        .where(patient_change.c.prior_id == patient_id, patient_change.c.kind == ChangeKind.MERGE)
        .order_by(patient_change.c.received_at.desc())
        .limit(_LONGEST_CHAIN)
    )
    for row in connection.execute(query):
        if not issuers_differ(row.prior_issuer, issuer):
            return row.patient_id, row.patient_issuer
    return None


def changed_studies(connection: sa.Connection, study: str | None = None) -> list[ChangedStudy]:
    """Return studies here with an ID that a merge has ended, or read before an update; of one study or of all.

    A series that is received again completely takes the new identity, and ends this.
    """
    is_prior = sa.and_(
        patient_change.c.kind == ChangeKind.MERGE, patient_change.c.prior_id == series_request.c.patient_id
    )
    is_updated = sa.and_(
        patient_change.c.kind == ChangeKind.UPDATE,
        patient_change.c.patient_id == series_request.c.patient_id,
        patient_change.c.received_at > series_request.c.read_at,
    )
    changed: dict[tuple[str, str], ChangedStudy] = {}
    for joined, issuer in ((is_prior, patient_change.c.prior_issuer), (is_updated, patient_change.c.patient_issuer)):
        query = sa.select(
            series_request.c.study_instance_uid,
            series_request.c.patient_issuer.label("of_images"),
            issuer.label("of_change"),
            patient_change.c.kind,
            patient_change.c.received_at,
        ).join(patient_change, joined)
        if study is not None:
            query = query.where(series_request.c.study_instance_uid == study)
        for row in connection.execute(query.order_by(patient_change.c.received_at)):
            if not issuers_differ(row.of_images, row.of_change):
                changed[row.study_instance_uid, row.kind] = ChangedStudy(
                    study_instance_uid=row.study_instance_uid, kind=ChangeKind(row.kind), at=row.received_at
                )
    return list(changed.values())


def purge_changes(connection: sa.Connection, before: float) -> None:
    """Delete changes of before ``before`` of patients of whom no images are here."""
    known = sa.exists().where(
        sa.or_(
            series_request.c.patient_id == patient_change.c.prior_id,
            series_request.c.patient_id == patient_change.c.patient_id,
        )
    )
    connection.execute(sa.delete(patient_change).where(patient_change.c.received_at < before, ~known))

"""Outlook of a study: further series that it may receive, from open series, senders and procedure steps."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from node.ledger import ProcedureStepState
from node.ledger.instances import equipment_of
from node.ledger.tables import association, instance, procedure_step, procedure_step_instance, series
from node.routing.waiting import Outlook


def outlook_of(connection: sa.Connection, study_uid: str, modalities: Collection[str]) -> Outlook:
    """The outlook of a study for rules whose series are of ``modalities``.

    Procedure steps count when all images of the study came from the device that says so.
    """
    states = connection.execute(
        sa.select(*series.c["series_instance_uid", "state", "last_at"]).where(series.c.study_instance_uid == study_uid)
    ).all()
    complete = {row.series_instance_uid for row in states if row.state == "COMPLETE"}
    steps = connection.execute(
        sa.select(procedure_step)
        .where(
            procedure_step.c.study_instance_uid == study_uid,
            procedure_step.c.modality.in_(("", *modalities)),
            procedure_step.c.equipment == equipment_of(connection, study_uid),
        )
        .order_by(procedure_step.c.created_at)
    ).all()
    running = next((step for step in steps if step.state == ProcedureStepState.IN_PROGRESS), None)
    return Outlook(
        receiving=len(states) - len(complete),
        last_at=max((row.last_at for row in states), default=0.0),
        expected=f"the procedure step of {running.calling_ae} is IN PROGRESS"
        if running is not None
        else _open_association(connection, study_uid),
        whole=_all_here(connection, [step for step in steps if step.state == ProcedureStepState.COMPLETED], complete)
        if running is None
        else "",
    )


def _open_association(connection: sa.Connection, study_uid: str) -> str:
    """The association that has sent images of the study and is still open, in words."""
    title = connection.scalar(
        sa.select(association.c.calling_ae)
        .join(instance, instance.c.association_id == association.c.id)
        .where(instance.c.study_instance_uid == study_uid, association.c.closed_at.is_(None))
        .order_by(association.c.opened_at)
        .limit(1)
    )
    return f"an association of {title} that has sent images of the study is open" if title is not None else ""


def _all_here(
    connection: sa.Connection, steps: Collection[sa.Row[tuple[object, ...]]], complete: Collection[str]
) -> str:
    """Who says that all series are here: completed steps that name series, each of which is complete."""
    if not steps:
        return ""
    named = set(
        connection.scalars(
            sa.select(procedure_step_instance.c.series_instance_uid).where(
                procedure_step_instance.c.procedure_step_uid.in_([step.sop_instance_uid for step in steps])
            )
        )
    )
    titles = sorted({str(step.calling_ae) for step in steps})
    if named and named <= set(complete):
        return f"all series that the COMPLETED procedure step of {', '.join(titles)} names are here"
    return ""

"""Outlook of a study: further series that it may receive, from open series, senders and procedure steps."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from node.ledger import ProcedureStepState, SeriesState
from node.ledger.associations import equipment_of, open_sender
from node.ledger.procedure_steps import Step, named_series, steps_of_study
from node.ledger.series import series_of_study
from node.reasons import Reason, ReasonCode, reason
from node.routing.selection_wait import Outlook


def outlook_of(connection: Connection, study_uid: str, modalities: Collection[str]) -> Outlook:
    """The outlook of a study for rules whose series are of ``modalities``.

    Procedure steps count when all images of the study came from the device that says so.
    """
    every = series_of_study(connection, study_uid)
    complete = {series.series_instance_uid for series in every if series.state == SeriesState.COMPLETE}
    steps = steps_of_study(connection, study_uid, modalities, equipment_of(connection, study_uid))
    running = next((step for step in steps if step.state == ProcedureStepState.IN_PROGRESS), None)
    return Outlook(
        receiving=len(every) - len(complete),
        last_at=max((series.last_at for series in every), default=0.0),
        expected=reason(ReasonCode.STUDY_STEP, calling_ae=running.calling_ae)
        if running is not None
        else _open_association(connection, study_uid),
        whole=_all_here(connection, [step for step in steps if step.state == ProcedureStepState.COMPLETED], complete)
        if running is None
        else None,
    )


def _open_association(connection: Connection, study_uid: str) -> Reason | None:
    """The association that has sent images of the study and is still open."""
    title = open_sender(connection, study_uid)
    return reason(ReasonCode.STUDY_ASSOCIATION, calling_ae=title) if title is not None else None


def _all_here(connection: Connection, steps: Sequence[Step], complete: Collection[str]) -> Reason | None:
    """Who says that all series are here: completed steps that name series, each of which is complete."""
    if not steps:
        return None
    named = named_series(connection, steps)
    titles = sorted({step.calling_ae for step in steps})
    if named and named <= set(complete):
        return reason(ReasonCode.STEP_COMPLETED, calling_aes=titles)
    return None

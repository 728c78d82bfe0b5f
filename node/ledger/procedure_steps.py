"""Modality Performed Procedure Steps (PS3.4 annex F), and notifications of availability (annex R) or study content."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import sqlalchemy as sa

from node.ledger import peer_bounds
from node.ledger.associations import equipment_of
from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_study_event
from node.ledger.peer_bounds import make_room
from node.ledger.series import Series
from node.ledger.states import ACTIVE, DecisionCause, DecisionOutcome, ProcedureStepState
from node.ledger.tables import candidate, decision, event, job, procedure_step, procedure_step_instance, series
from node.ledger.transitions import cancel_active
from node.reasons import Reason, ReasonCode, reason

_EVENTS: Mapping[str, EventKind] = MappingProxyType(
    {
        ProcedureStepState.AVAILABLE: EventKind.AVAILABILITY,
        ProcedureStepState.CONTENT: EventKind.STUDY_CONTENT,
    }
)
"""Of notifications."""
_NAMED = sa.select(procedure_step_instance).where(
    procedure_step_instance.c.procedure_step_uid == procedure_step.c.sop_instance_uid
)
_MAY_HAVE_MADE = sa.and_(
    ~_NAMED.exists(),
    procedure_step.c.state != ProcedureStepState.COMPLETED,
    procedure_step.c.modality.in_(("", sa.bindparam("modality"))),
    procedure_step.c.created_at <= sa.bindparam("last_at"),
)
_STEPS_OF_SERIES = (
    sa.select(procedure_step)
    .where(
        procedure_step.c.study_instance_uid == sa.bindparam("study"),
        sa.or_(
            _NAMED.where(procedure_step_instance.c.series_instance_uid == sa.bindparam("series")).exists(),
            _MAY_HAVE_MADE,
        ),
    )
    .order_by(procedure_step.c.created_at)
)


@dataclass(frozen=True, kw_only=True)
class NewStep:
    """An N-CREATE."""

    sop_instance_uid: str
    study_instance_uid: str
    modality: str
    calling_ae: str
    equipment: str
    """The device that says so; see ``OpenAssociation``."""
    made: frozenset[tuple[str, str]]
    """``(SeriesInstanceUID, SOPInstanceUID)`` of what it has made already; "" when it names the series only."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A procedure step as routing weighs it."""

    sop_instance_uid: str
    state: ProcedureStepState
    calling_ae: str
    equipment: str
    """The device that says so; "" when it is not known."""


def create_step(
    connection: sa.Connection, new: NewStep, state: ProcedureStepState = ProcedureStepState.IN_PROGRESS
) -> Literal["created", "exists", "too many"]:
    """Keep a step that began, or a notification (``AVAILABLE``, ``CONTENT``).

    Nothing is kept when its SOP Instance UID is taken or its device has too many.
    """
    taken = sa.select(procedure_step.c.sop_instance_uid).where(
        procedure_step.c.sop_instance_uid == new.sop_instance_uid
    )
    if connection.scalar(taken) is not None:
        return "exists"
    if len(new.made) > peer_bounds.MOST_NAMED_OF_ONE or not _has_room(connection, new.equipment, len(new.made)):
        return "too many"
    at = ledger_clock(connection)
    row = {name: value for name, value in vars(new).items() if name != "made"}
    times = {"created_at": at, "updated_at": at}
    step = {**row, **times, "state": state, "named": len(new.made)}
    if not insert_new(connection, procedure_step, [step]):
        return "exists"
    _add(connection, new.sop_instance_uid, new.made)
    if state in _EVENTS:
        series_uids = {series_uid for series_uid, _ in new.made}
        _record(connection, new, state, images=len(new.made), series=len(series_uids))
    else:
        _record(connection, new, state)
    return "created"


def state_of_step(connection: sa.Connection, uid: str) -> tuple[str, str] | None:
    """State and device of a step, held until the transaction ends; ``None`` when there is no such step."""
    query = sa.select(procedure_step.c.state, procedure_step.c.equipment)
    row = connection.execute(query.where(procedure_step.c.sop_instance_uid == uid).with_for_update()).first()
    return None if row is None else (str(row.state), str(row.equipment or ""))


def update_step(connection: sa.Connection, uid: str, state: str, instances: Collection[tuple[str, str]]) -> bool:
    """Keep what an N-SET of a step IN PROGRESS says; ``False``, and nothing is kept, when it names too much.

    DISCONTINUED stops the unfinished jobs of those of its series that came from the device of the step.
    """
    this = procedure_step.c.sop_instance_uid == uid
    step = connection.execute(sa.select(procedure_step).where(this)).one()
    of_step = procedure_step_instance.c.procedure_step_uid == uid
    known = connection.execute(
        sa.select(procedure_step_instance.c.series_instance_uid, procedure_step_instance.c.sop_instance_uid).where(
            of_step
        )
    )
    added = set(instances) - {(row.series_instance_uid, row.sop_instance_uid) for row in known}
    named = step.named + len(added)
    if added and (
        named > peer_bounds.MOST_NAMED_OF_ONE or not _has_room(connection, step.equipment or "", len(added), uid)
    ):
        return False
    connection.execute(
        sa.update(procedure_step).where(this).values(state=state, updated_at=ledger_clock(connection), named=named)
    )
    _add(connection, uid, added)
    if state == ProcedureStepState.IN_PROGRESS:
        return True
    uids = set(connection.scalars(sa.select(procedure_step_instance.c.series_instance_uid).where(of_step)))
    images = sa.select(sa.func.count()).where(of_step, procedure_step_instance.c.sop_instance_uid != "")
    _record(connection, step, state, images=connection.scalar(images), series=len(uids))
    if state == ProcedureStepState.DISCONTINUED:
        study = str(step.study_instance_uid)
        own = [uid for uid in sorted(uids) if step.equipment and equipment_of(connection, study, uid) == step.equipment]
        _stop(connection, study, own, reason(ReasonCode.STEP_DISCONTINUED, calling_ae=step.calling_ae))
    return True


def _stop(connection: sa.Connection, study: str, uids: Sequence[str], why: Reason) -> None:
    """Neither jobs nor decisions that wait for other series go on."""
    jobs, candidates, decisions = (
        sa.and_(table.c.study_instance_uid == study, table.c.series_instance_uid.in_(uids))
        for table in (job, candidate, decision)
    )
    unfinished = sa.select(job.c.series_instance_uid).where(jobs, job.c.state.in_(ACTIVE))
    stopped = sa.and_(
        decisions, decision.c.series_instance_uid.in_(unfinished), decision.c.outcome == DecisionOutcome.ROUTED
    )
    connection.execute(sa.update(decision).where(stopped).values(cause=DecisionCause.DISCONTINUED))
    cancel_active(connection, jobs, why)
    connection.execute(sa.delete(candidate).where(candidates))
    ignored = {"outcome": DecisionOutcome.IGNORED, "reason": why, "trace": [], "cause": DecisionCause.DISCONTINUED}
    connection.execute(
        sa.update(decision).where(decisions, decision.c.outcome == DecisionOutcome.WAITING).values(**ignored)
    )


def purge_steps(connection: sa.Connection, updated_before: float) -> None:
    """Delete steps that nothing has touched since and whose study is not, or no longer, here."""
    here = sa.exists().where(series.c.study_instance_uid == procedure_step.c.study_instance_uid)
    old = sa.and_(procedure_step.c.updated_at < updated_before, ~here)
    for step in connection.execute(sa.select(procedure_step).where(old)).all():
        _remove(connection, step)


def _has_room(connection: sa.Connection, equipment: str, named: int, updated: str = "") -> bool:
    """Whether a device may have one step more, or name more in the one that is ``updated``."""
    has_ended = sa.and_(
        procedure_step.c.state != ProcedureStepState.IN_PROGRESS, procedure_step.c.sop_instance_uid != updated
    )
    return make_room(
        connection,
        procedure_step,
        equipment,
        rows=0 if updated else 1,
        named=named,
        has_ended=has_ended,
        remove=_remove,
    )


def _remove(connection: sa.Connection, step: Any) -> None:
    uid, study = step.sop_instance_uid, step.study_instance_uid
    connection.execute(sa.delete(procedure_step_instance).where(procedure_step_instance.c.procedure_step_uid == uid))
    connection.execute(sa.delete(procedure_step).where(procedure_step.c.sop_instance_uid == uid))
    is_here = sa.exists().where(series.c.study_instance_uid == study)
    connection.execute(sa.delete(event).where(event.c.study_instance_uid == study, ~is_here))


def steps_of_series(connection: sa.Connection, of: Series) -> list[Step]:
    """Steps that made the series, or may have: they name it, or no series at all and began before its last image."""
    this = {"study": of.study_instance_uid, "series": of.series_instance_uid}
    rows = connection.execute(_STEPS_OF_SERIES, {**this, "modality": of.modality, "last_at": of.last_at})
    return [_step(row) for row in rows]


def steps_of_study(connection: sa.Connection, study: str, modalities: Collection[str], equipment: str) -> list[Step]:
    """Steps of one device in a study that make series of these modalities, or do not say of which."""
    return _steps(
        connection,
        sa.and_(
            procedure_step.c.study_instance_uid == study,
            procedure_step.c.modality.in_(("", *modalities)),
            procedure_step.c.equipment == equipment,
        ),
    )


def named_instances(connection: sa.Connection, steps: Sequence[Step], series_uid: str) -> set[str]:
    """SOP Instance UIDs that these steps name in a series."""
    query = sa.select(procedure_step_instance.c.sop_instance_uid).where(
        procedure_step_instance.c.procedure_step_uid.in_([step.sop_instance_uid for step in steps]),
        procedure_step_instance.c.series_instance_uid == series_uid,
        procedure_step_instance.c.sop_instance_uid != "",
    )
    return set(connection.scalars(query))


def instances_of_step(connection: sa.Connection, uid: str) -> set[tuple[str, str]]:
    """``(SeriesInstanceUID, SOPInstanceUID)`` of everything that one step names."""
    names = procedure_step_instance.c["series_instance_uid", "sop_instance_uid"]
    query = sa.select(*names).where(procedure_step_instance.c.procedure_step_uid == uid)
    return {(str(series_uid), str(sop)) for series_uid, sop in connection.execute(query)}


def named_series(connection: sa.Connection, steps: Sequence[Step]) -> set[str]:
    """Series Instance UIDs that these steps name."""
    query = sa.select(procedure_step_instance.c.series_instance_uid).where(
        procedure_step_instance.c.procedure_step_uid.in_([step.sop_instance_uid for step in steps])
    )
    return set(connection.scalars(query))


def _steps(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Step]:
    """In the order in which they began."""
    query = sa.select(procedure_step).where(where).order_by(procedure_step.c.created_at)
    return [_step(row) for row in connection.execute(query)]


def _step(row: sa.Row[Any]) -> Step:
    return Step(
        sop_instance_uid=row.sop_instance_uid,
        state=ProcedureStepState(row.state),
        calling_ae=row.calling_ae,
        equipment=row.equipment or "",
    )


def _add(connection: sa.Connection, uid: str, instances: Collection[tuple[str, str]]) -> None:
    rows = [
        {"procedure_step_uid": uid, "series_instance_uid": series, "sop_instance_uid": sop}
        for series, sop in sorted(instances)
    ]
    insert_new(connection, procedure_step_instance, rows)


def _record(
    connection: sa.Connection, step: Any, state: str, *, images: int | None = None, series: int | None = None
) -> None:
    """Add the new state of a step to the timeline; ``images`` and ``series``: how many it made, when it has ended."""
    record_study_event(
        connection,
        _EVENTS.get(state, EventKind.PROCEDURE_STEP),
        at=ledger_clock(connection),
        study_instance_uid=step.study_instance_uid,
        state=state.lower(),
        modality=step.modality,
        calling_ae=step.calling_ae,
        images=images,
        series=series,
    )

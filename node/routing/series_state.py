"""State of a series that is being received: senders, lists of instances, procedure steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from node.ledger import ProcedureStepState
from node.ledger.associations import equipment_of, open_associations
from node.ledger.commitments import Request, requests_of_series
from node.ledger.instances import series_files
from node.ledger.procedure_steps import Step, named_instances, steps_of_series
from node.ledger.series import Series
from node.reasons import Reason, ReasonCode, reason
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
    in_progress: Reason | None
    """Which procedure step is IN PROGRESS."""
    discontinued: Reason | None
    """Which procedure step that made it was discontinued."""
    unrelated: tuple[Reason, ...]
    """Steps and requests about it that came from another device than its images: they do not count."""
    missing: Missing


def known_of(connection: Connection, of: Series) -> Known:
    """Everything that the ledger knows about a series."""
    key = (of.study_instance_uid, of.series_instance_uid)
    paths, senders = series_files(connection, *key), open_associations(connection, *key)
    device = equipment_of(connection, *key)
    every = steps_of_series(connection, of)
    steps = [step for step in every if device and step.equipment == device]
    # Of one image nobody needs a list: at least two.
    requests = [request for request in requests_of_series(connection, *key) if len(request.paths) > 1]
    own = [request for request in requests if device and request.equipment == device]
    completed, available, content = (
        _listed(connection, of, _in_state(steps, state), paths, others)
        for state, others in (
            (ProcedureStepState.COMPLETED, 0),
            (ProcedureStepState.AVAILABLE, len(senders)),
            (ProcedureStepState.CONTENT, len(senders)),
        )
    )
    lists = (*completed, *available, *content)
    in_progress, discontinued = (
        next(map(_step, _in_state(steps, state)), None)
        for state in (ProcedureStepState.IN_PROGRESS, ProcedureStepState.DISCONTINUED)
    )
    return Known(
        paths=paths,
        senders=senders,
        listings=(*lists, *(_listing(request, paths.keys(), senders) for request in own)),
        in_progress=in_progress,
        discontinued=None if completed else discontinued,
        unrelated=(
            *({**_step(step), "equipment": step.equipment} for step in every if step not in steps),
            *({**_request(request), "equipment": request.equipment} for request in requests if request not in own),
        ),
        missing=missing_of(connection, *key),
    )


def _in_state(steps: Sequence[Step], state: ProcedureStepState) -> list[Step]:
    return [step for step in steps if step.state == state]


def _listed(
    connection: Connection, of: Series, steps: Sequence[Step], paths: Mapping[str, str], other_senders: int
) -> list[Listing]:
    """All lists of completed steps, or of notifications, as one: several may have added to a series."""
    if not steps:
        return []
    named = named_instances(connection, steps, of.series_instance_uid)
    absent, unnamed = len(named - paths.keys()), len(paths.keys() - named)
    by = _step(steps[-1])
    return [Listing(by=by, named=len(named), absent=absent, unnamed=unnamed, other_senders=other_senders)]


def _listing(request: Request, here: Collection[str], senders: frozenset[str]) -> Listing:
    return Listing(
        by=_request(request),
        named=len(request.paths),
        absent=sum(path is None for path in request.paths.values()),
        unnamed=len(set(here) - request.paths.keys()),
        other_senders=len(senders - {request.association_id}),
    )


def _request(request: Request) -> Reason:
    return reason(ReasonCode.COMMITMENT_REQUEST, calling_ae=request.calling_ae)


def _step(step: Step) -> Reason:
    if step.state == ProcedureStepState.AVAILABLE:
        return reason(ReasonCode.AVAILABILITY_NOTIFICATION, calling_ae=step.calling_ae)
    if step.state == ProcedureStepState.CONTENT:
        return reason(ReasonCode.CONTENT_NOTIFICATION, calling_ae=step.calling_ae)
    return reason(ReasonCode.PROCEDURE_STEP, state=step.state, calling_ae=step.calling_ae)

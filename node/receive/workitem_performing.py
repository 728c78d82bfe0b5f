"""UPS Pull SOP Class as SCP (PS3.4 CC.2.1, CC.2.6): refuses to let others perform what the node performs itself.

The Transaction UID of a workitem in progress is the node's own, so that nobody can state it.
"""

from __future__ import annotations

from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.status_codes import (
    ALREADY_CANCELED,
    ALREADY_IN_PROGRESS,
    CANNOT_BECOME_SCHEDULED,
    INVALID_ARGUMENT,
    IS_COMPLETED,
    NO_LONGER_UPDATABLE,
    NOT_AUTHORIZED,
    NOT_IN_PROGRESS,
    WRONG_TRANSACTION,
)
from node.workitems.state import FINAL, StepState

_OURS = "the node performs its workitems itself"
_FINAL = "workitem has ended"


def refused_update(state: StepState) -> NormalizedAnswer:
    """Return the answer to an N-SET."""
    if state in FINAL:
        return NormalizedAnswer(status=NO_LONGER_UPDATABLE, comment=_FINAL)
    if state == StepState.SCHEDULED:
        return NormalizedAnswer(status=NOT_IN_PROGRESS, comment="workitem is SCHEDULED")
    return NormalizedAnswer(status=WRONG_TRANSACTION, comment=_OURS)


def refused_change(state: StepState, request: NormalizedRequest) -> NormalizedAnswer:
    """Return the answer to a request for another Procedure Step State (N-ACTION 1)."""
    wanted = str(request.dataset.get("ProcedureStepState") or "").strip()
    if wanted not in set(StepState):
        return NormalizedAnswer(status=INVALID_ARGUMENT, comment="Procedure Step State is none of UPS")
    if wanted == StepState.SCHEDULED:
        return NormalizedAnswer(status=CANNOT_BECOME_SCHEDULED, comment="SCHEDULED by N-CREATE only")
    if state in FINAL:
        if wanted != state:
            return NormalizedAnswer(status=NO_LONGER_UPDATABLE, comment=_FINAL)
        is_completed = state == StepState.COMPLETED
        return NormalizedAnswer(status=IS_COMPLETED if is_completed else ALREADY_CANCELED, comment=_FINAL)
    if state == StepState.IN_PROGRESS:
        is_claim = wanted == StepState.IN_PROGRESS
        return NormalizedAnswer(status=ALREADY_IN_PROGRESS if is_claim else WRONG_TRANSACTION, comment=_OURS)
    if wanted != StepState.IN_PROGRESS:
        return NormalizedAnswer(status=NOT_IN_PROGRESS, comment="workitem is SCHEDULED")
    refused = f"claim of workitem {request.sop_instance_uid}: {_OURS}"
    return NormalizedAnswer(status=NOT_AUTHORIZED, comment=_OURS, refused=refused)

"""Workitems of another system that this node performs: what was claimed, and what the other system knows.

Each step is recorded after it was done at the other system, where doing it twice is harmless; the Transaction UID is
kept before the claim, so that a process that was killed in between recognises its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.clock_steps import passed
from node.ledger.engine import insert_new
from node.ledger.states import ClaimState
from node.ledger.tables import claimed_workitem, series_request
from node.ledger.workitems import Requested
from node.reasons import Reason

_ENDED = (ClaimState.ENDED, ClaimState.LOST)
_OPEN = claimed_workitem.c.state.not_in([sa.literal_column(f"'{state}'") for state in _ENDED])
"""As literals, for which the index of open claims serves."""


@dataclass(frozen=True, kw_only=True)
class NewClaim:
    """A workitem of another system that is to be claimed."""

    uid: str
    transaction_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    """Empty: it names none."""
    patient_id: str = ""
    procedure: str
    """Name of ``[procedures.NAME]``."""
    requested: Requested
    reason: Reason | None = None
    """Why it cannot be performed: it is claimed and canceled with it."""


@dataclass(frozen=True, kw_only=True)
class ClaimedWorkitem(NewClaim):
    """One row of ``claimed_workitem``."""

    state: ClaimState
    reported: str
    """The progress that the other system knows."""
    failures: int
    """Attempts in a row that have failed."""
    claimed_at: float
    due_at: float
    updated_at: float


def begin_claim(connection: sa.Connection, new: NewClaim) -> bool:
    """Keep a claim before it is made; ``False``: the workitem is known."""
    at = ledger_clock(connection)
    row = vars(new) | {"request": asdict(new.requested), "state": ClaimState.CLAIMING, "reported": "", "failures": 0}
    row |= {"claimed_at": at, "due_at": at, "updated_at": at}
    del row["requested"]
    return bool(insert_new(connection, claimed_workitem, [row]))


def known_claims(connection: sa.Connection) -> set[str]:
    """Return the UIDs of all workitems that were claimed."""
    return set(connection.scalars(sa.select(claimed_workitem.c.uid)))


def due_claims(connection: sa.Connection, at: float) -> list[ClaimedWorkitem]:
    """Return the claims whose next attempt is due, the oldest first."""
    query = sa.select(claimed_workitem).where(_OPEN, passed(claimed_workitem.c.due_at, at))
    return [_claim(row) for row in connection.execute(query.order_by(claimed_workitem.c.claimed_at)).mappings()]


def set_claim(connection: sa.Connection, uid: str, state: ClaimState, why: Reason | None = None) -> None:
    """Record what was done; the next attempt is due at once. ``why``: it was refused or lost."""
    at = ledger_clock(connection)
    values = {"state": state, "failures": 0, "due_at": at, "updated_at": at} | ({"reason": why} if why else {})
    _change(connection, uid, **values)


def set_reported(connection: sa.Connection, uid: str, progress: str) -> None:
    """Record the progress that the other system knows now."""
    _change(connection, uid, reported=progress, failures=0, updated_at=ledger_clock(connection))


def put_off_claim(connection: sa.Connection, of: ClaimedWorkitem, seconds: float, *, failed: bool) -> None:
    """Make the next attempt due later. ``failed``: the other system did not answer, or not as it should."""
    failures = of.failures + 1 if failed else 0
    _change(connection, of.uid, failures=failures, due_at=ledger_clock(connection) + seconds)


def purge_claims(connection: sa.Connection, before: float) -> int:
    """Delete claims that ended before a time; return how many."""
    ended = (claimed_workitem.c.state.in_(_ENDED), claimed_workitem.c.updated_at < before)
    return int(connection.execute(sa.delete(claimed_workitem).where(*ended)).rowcount)


def stuck_claims(connection: sa.Connection, before: float) -> int:
    """Return how many claims have not moved on since ``before`` because attempts fail."""
    failed = (_OPEN, claimed_workitem.c.failures > 0, claimed_workitem.c.updated_at < before)
    return int(connection.scalar(sa.select(sa.func.count()).where(*failed)) or 0)


def patient_of_images(connection: sa.Connection, study: str, series_uid: str) -> str:
    """Return the patient ID of a series that was complete once; empty: not known."""
    of_series = (series_request.c.study_instance_uid == study, series_request.c.series_instance_uid == series_uid)
    return str(connection.scalar(sa.select(series_request.c.patient_id).where(*of_series)) or "")


def _change(connection: sa.Connection, uid: str, **values: object) -> None:
    connection.execute(sa.update(claimed_workitem).where(_OPEN, claimed_workitem.c.uid == uid).values(**values))


def _claim(row: Any) -> ClaimedWorkitem:
    values = dict(row)
    stated = values.pop("request")
    requested = Requested(**stated | {"code": tuple(stated["code"])})
    return ClaimedWorkitem(requested=requested, **values | {"state": ClaimState(values["state"])})

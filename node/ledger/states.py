"""States and kinds as the ledger stores them: each word once, under the name of its column's enumeration.

The values are what the database, `ainode status --json` and the metrics carry; they never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class SeriesState(StrEnum):
    """Whether all images of a series are here."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"


class PackState(StrEnum):
    """State of a pack in the object store."""

    WRITING = "writing"
    """A process uploads it, or has died while it did."""
    VERIFIED = "verified"
    """It was read back and is right."""
    DELETING = "deleting"
    """Nothing needs it any more; nobody writes one of this name until it is gone."""


class DecisionOutcome(StrEnum):
    """What routing decided about one generation of a series."""

    ROUTED = "routed"
    WAITING = "waiting"
    """A rule of studies waits for other series."""
    IGNORED = "ignored"
    HELD = "held"
    """Its images contradict one another on whose they are; an operator decides."""


class DecisionCause(StrEnum):
    """What decided in place of the rules."""

    DISCONTINUED = "discontinued"
    """A procedure step that was discontinued."""


class JobState(StrEnum):
    """State of a job, in the words of PS3.4 CC.1.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


PRIORITIES: Mapping[str, int] = MappingProxyType({"high": 1, "medium": 2, "low": 3})
"""Priorities of jobs, as rules and operators name them and as the ledger keeps them."""

LEAST_URGENT = 4
"""Priority of jobs that are tried in shadow, which have turns of their own."""


def priority_word(number: int) -> str:
    """Return the word for a priority of the ledger; ``""`` for that of jobs in shadow, which has none."""
    return next((word for word, priority in PRIORITIES.items() if priority == number), "")


class JobStage(StrEnum):
    """Steps of a job, in their order."""

    INFER = "infer"
    ENCODE = "encode"
    DELIVER = "deliver"


class WithoutAnalysis(StrEnum):
    """Outcome of a job that has no outcome of an analysis (``node.outcome.Outcome``)."""

    FORWARDED = "forwarded"
    """It sends on images as they were received."""
    HELD = "held"
    """Its images contradict one another on whose they are; an operator decides."""


class ShadowCause(StrEnum):
    """Why the results of a job are kept here and sent to no destination."""

    TRIAL = "trial"
    """Its pipeline is tried beside the one whose results are sent."""
    STOP_RULE = "stop rule"
    """The stop rule of its pipeline has tripped."""
    NOT_ACCEPTED = "not accepted"
    """No report of an acceptance test allows the version of its pipeline to send results."""


class DeliveryState(StrEnum):
    """State of the objects that one job sends to one destination."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    STORED = "STORED"
    """Every C-STORE was answered with success."""
    CONFIRMED = "CONFIRMED"
    """There is proof that the destination keeps all objects, such as Storage Commitment."""
    CANCELED = "CANCELED"


class CommitmentState(StrEnum):
    """State of a Storage Commitment request that another node made to this one."""

    SCHEDULED = "SCHEDULED"
    COMPLETED = "COMPLETED"
    """The requester took the report."""
    CANCELED = "CANCELED"
    """The report was given up."""


class ProcedureStepState(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    AVAILABLE = "AVAILABLE"
    """Not of the standard: an Instance Availability Notification, which names instances as a step does that ended."""
    CONTENT = "CONTENT"
    """Not of the standard: a Study Content Notification, which does the same."""


class WorklistState(StrEnum):
    """What became of a query of the Modality Worklist."""

    PENDING = "pending"
    """Not answered yet."""
    FOUND = "found"
    """It had an order, or one came in a message meanwhile."""
    ABSENT = "absent"
    """It has nothing of the study."""
    NOT_TAKEN = "not taken"
    """What it has is of another patient or order, or ambiguous."""
    UNANSWERED = "unanswered"
    """It did not answer for ``retry_hours``."""


class WorkitemState(StrEnum):
    """What became of a request for an analysis."""

    PENDING = "pending"
    """It has no job yet: its series is not complete, or the router has not come to it."""
    TAKEN = "taken"
    """Its job says how far it is."""
    CANCELED = "canceled"
    """It has ended before it had a job, or its job was begun again for another request."""


class ClaimState(StrEnum):
    """How far a workitem of another system is that this node performs."""

    CLAIMING = "claiming"
    """Its Transaction UID is kept; whether the claim was taken is not known."""
    CLAIMED = "claimed"
    """It is ours; its images are awaited."""
    REQUESTED = "requested"
    """The router makes its job, or has."""
    REFUSED = "refused"
    """It is ours and cannot be performed; the other system does not know yet."""
    ENDED = "ended"
    """The other system knows its end."""
    LOST = "lost"
    """Another performer has it, or it was withdrawn."""


class FetchState(StrEnum):
    """What became of a study that is fetched from an archive as time allows."""

    WAITING = "waiting"
    FETCHED = "fetched"
    """The node has what the archive has of the wanted series."""
    NOT_FOUND = "not found"
    """The archive has no such study, or nothing wanted of it."""
    FAILED = "failed"
    """Images did not come in any attempt."""
    CANCELLED = "cancelled"
    """An operator wants no more of the list."""


class ConflictKind(StrEnum):
    """How a second file under a known SOP Instance UID differs from the first."""

    IDENTITY = "identity"
    """Other patient, study, series or order."""
    ENCODING = "encoding"
    """Other transfer syntax or File Meta Information, same content."""
    CONTENT = "content"


class AssociationEnding(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    """By A-ABORT of the peer, or by ours after a protocol violation."""
    LOST = "lost"
    """The connection broke without A-ABORT."""
    TIMED_OUT = "timed out"
    STOPPED = "stopped"
    """The receiver was shut down."""
    KILLED = "killed"
    """The receiver died."""
    AS_USUAL = "broken off as usual"
    """Without release, by a caller that is configured to end its transfers this way (``aborts_after_transfer``)."""


class EndingPoint(StrEnum):
    """In the middle of what an association ended."""

    MESSAGE = "message"
    """A message was being received."""
    REFUSAL = "refusal"
    """The last message had been refused."""


class MemberState(StrEnum):
    """What a process of the fleet does."""

    ACTIVE = "active"
    DRAINING = "draining"
    """It begins nothing more and ends when what it has begun is finished."""
    LOST = "lost"
    """A receiver that died; a receiver that sees its temporary files has not taken them over yet."""


class NoticeKind(StrEnum):
    """What a notice for the audit trail is about."""

    START = "start"
    STOP = "stop"
    LOGIN = "login"
    FAILED_LOGIN = "failed login"
    LOGOUT = "logout"
    REFUSED = "refused"
    ACT = "act"
    QUERY = "query"


ACTIVE = (JobState.SCHEDULED, JobState.IN_PROGRESS)
"""States of a job that has not ended."""

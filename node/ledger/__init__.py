"""The ledger: received instances, decisions, jobs and deliveries (SQLAlchemy Core; SQLite or PostgreSQL)."""

from node.ledger.states import (
    ACTIVE,
    AssociationEnding,
    CommitmentState,
    ConflictKind,
    DecisionCause,
    DecisionOutcome,
    DeliveryState,
    EndingPoint,
    JobStage,
    JobState,
    MemberState,
    NoticeKind,
    ProcedureStepState,
    SeriesState,
    WithoutAnalysis,
)

__all__ = [
    "ACTIVE",
    "AssociationEnding",
    "CommitmentState",
    "ConflictKind",
    "DecisionCause",
    "DecisionOutcome",
    "DeliveryState",
    "EndingPoint",
    "JobStage",
    "JobState",
    "MemberState",
    "NoticeKind",
    "ProcedureStepState",
    "SeriesState",
    "WithoutAnalysis",
]

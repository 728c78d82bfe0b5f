"""The ledger: received instances, decisions, jobs and deliveries (SQLAlchemy Core; SQLite or PostgreSQL)."""

from node.ledger.engine import begin_immediate, open_ledger
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
    NoticeKind,
    ProcedureStepState,
    SeriesState,
    WithoutAnalysis,
)
from node.ledger.tables import metadata

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
    "NoticeKind",
    "ProcedureStepState",
    "SeriesState",
    "WithoutAnalysis",
    "begin_immediate",
    "metadata",
    "open_ledger",
]

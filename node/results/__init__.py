"""Results: findings become DICOM objects (SEG, TID 1500 SR, derived series), which the gate validates."""

from node.config.routing import Outcome
from node.results.analysis import ANALYSED, OPTIONAL, Analysis, EncodedObject, in_order, of_part, outcome_of, reason_of
from node.results.encode import encode
from node.results.gate.check import check
from node.results.plausibility import plausible, unfit
from node.results.predecessor import Predecessor

__all__ = [
    "ANALYSED",
    "OPTIONAL",
    "Analysis",
    "EncodedObject",
    "Outcome",
    "Predecessor",
    "check",
    "encode",
    "in_order",
    "of_part",
    "outcome_of",
    "plausible",
    "reason_of",
    "unfit",
]

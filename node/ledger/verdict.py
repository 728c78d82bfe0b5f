"""The verdicts that a reader can give, and one on a lesion, as values; ``node.web.verdict_clicks`` offers some."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a reader says of a lesion. Values are stored."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"
    ADDED = "added"
    """A lesion that the analysis did not report."""
    NOTHING_MISSED = "nothing missed"
    """Of the whole analysis: the reader knows of no lesion that it did not report."""


class SourceKind(StrEnum):
    """What a verdict was read in. Values are stored."""

    SEGMENTATION = "segmentation"
    REPORT = "report"
    REJECTION_NOTE = "rejection note"
    CLICK = "click"


class MatchedBy(StrEnum):
    """How a lesion of a reader's object was found to be one of ours. Values are stored."""

    TRACKING_UID = "Tracking UID"
    OVERLAP = "overlap"


@dataclass(frozen=True, kw_only=True)
class LesionVerdict:
    """What a reader says of one lesion of one analysis."""

    job_id: str
    lesion: str
    """Tracking UID; of an added lesion what its object calls it."""
    verdict: Verdict
    matched_by: MatchedBy | None = None
    dice: float | None = None
    """Of an edited lesion, 0 to 1."""
    hd95_mm: float | None = None
    volume_mm3: float | None = None
    """Of the node's mask."""
    reader_volume_mm3: float | None = None

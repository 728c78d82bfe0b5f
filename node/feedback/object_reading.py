"""Reading of a received object as verdicts: what the confined process is asked, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.ledger.verdict import LesionVerdict
from node.reasons import Reason

_PLACEHOLDERS = {"", "unknown", "anonymous"}
"""What programs write where they know no name; dcmjs, and OHIF with it, write ``unknown^unknown``."""


@dataclass(frozen=True, kw_only=True)
class AnalysisFiles:
    """An analysis of this node as files."""

    job_id: str
    pipeline: str
    series_instance_uid: str
    images: tuple[Path, ...]
    segmentation: Path | None
    reports: tuple[Path, ...]
    objects: tuple[str, ...]
    """SOP Instance UIDs of its objects."""


@dataclass(frozen=True, kw_only=True)
class ObjectReading:
    """What a reader's object says."""

    verdicts: tuple[LesionVerdict, ...] = ()
    is_whole: bool = True
    """Whether it shows all lesions of the analyses that it is about."""
    refused: dict[str, str] | None = None
    """Why it holds no verdict: a reason of ``node.reasons``."""
    reader: str = ""
    """Whom it names."""
    content_time: str = ""
    """Content Date and Time."""


def refused(why: Reason) -> ObjectReading:
    """Return the answer on an object without a verdict."""
    return ObjectReading(refused={name: str(value) for name, value in why.items()})


def named_person(name: str) -> str:
    """Return a Person Name; ``""`` for one that is a placeholder and names nobody."""
    parts = {part.strip().lower() for part in name.replace("=", "^").split("^")}
    return "" if parts <= _PLACEHOLDERS else name

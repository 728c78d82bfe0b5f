"""A task for the process that runs pipelines, its reply, and the access that the process has."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.config import PipelineTable

if TYPE_CHECKING:
    from node.inference.admission import MemoryPeak


@dataclass(frozen=True, kw_only=True)
class PriorFiles:
    """An earlier analysis to compare with."""

    report: Path | None = None
    """This node's report."""
    segmentation: Path | None = None
    """What it outlines; ``None`` as ``images`` are empty: not to be had any more."""
    images: tuple[Path, ...] = ()
    """Of the series that was analysed."""
    without: str = ""
    """Why there is none although the rule asks for one; a remark of the report."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One pipeline to run on one series."""

    job_id: str
    pipeline: str
    table: PipelineTable
    paths: tuple[Path, ...]
    """Files of the series."""
    companions: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Files of other series of the study that the pipeline may look at, by name."""
    prior: PriorFiles = PriorFiles()
    seen: tuple[MemoryPeak, ...] = ()
    """What earlier analyses took."""
    incomplete: str = ""
    """What is known to be missing from the series, in words for a radiologist."""
    folder: Path
    """Where the handover goes."""
    load_only: bool = False
    """Only make sure that the pipeline is loaded."""
    prefetch: bool = False
    """Only read and decode the series, beside what runs; the same task without this comes next. No reply."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Result of a task. ``outcome`` is empty after a failure; ``error`` then is a code of ``node.errors``."""

    outcome: str = ""
    reason: str = ""
    error: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """See ``node.inference.analysis_statistics``."""

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Reply:
        return cls(**json.loads(data))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Access that the process has in addition to what any program with PyTorch needs."""

    device: str
    threads: int
    rules: tuple[tuple[Path, int], ...]
    """Files, for ``node.isolation.confine``."""
    out: Path
    """For temporary files."""

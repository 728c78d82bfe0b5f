"""What is encoded: one finished analysis of one series, and the DICOM objects made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread

from node.config.routing import ObjectKind, Outcome
from node.errors import EncodeError
from node.pipeline import Algorithm, DerivedSeries, Findings

ANALYSED: frozenset[Outcome] = frozenset({"findings", "no findings", "partial", "derived"})
"""Outcomes of a pipeline that ran to its end."""


class Source(Protocol):
    """The analysed series; ``studies.SourceSeries`` is one. A frame of a multi-frame object is an image, too."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of each of ``datasets``."""

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """Headers, sorted along the slice normal, or by Instance Number when there is no geometry.

        Referenced Frame Number is there when the image is a frame of a multi-frame object.
        """

    @property
    def geometry(self) -> VolumeGeometry:
        """Grid of the volume, slices in the order of ``datasets``. Raises ``Unsuitable`` when there is none."""

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """(row, column) in ``geometry`` of the first pixel of each image; empty when that is (0, 0) for all."""

    @property
    def left_out(self) -> str:
        """Which images of the series were not analysed, and why; empty when all were."""

    @property
    def modality(self) -> str: ...

    def image(self, index: int) -> NDArray[Any]:
        """Values ``[row, column]`` of one of ``datasets``, Modality LUT applied."""

    def stored(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """``image`` of each of the ascending ``indices`` before the Modality LUT; each file is read once."""

    @property
    def series_instance_uid(self) -> str: ...


def of_part(findings: Findings, left_out: str) -> Findings:
    """The findings with what was left out of the series, ``Source.left_out``, or is known to be missing, said."""
    if not left_out or left_out in findings.partial:
        return findings
    return replace(findings, partial="; ".join(filter(None, (findings.partial, left_out))))


def outcome_of(findings: Findings) -> Outcome:
    """``findings`` when there is a lesion or a segment that is not empty; ``derived`` when it is not about any.

    ``partial`` when the pipeline says that it analysed only a part, whatever it found.
    """
    if findings.partial:
        return "partial"
    if findings.lesions or any(s.mask.array.any() for s in findings.segments):
        return "findings"
    return "derived" if findings.derived and not findings.segments else "no findings"


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """One analysis of one series by one pipeline, however it ended."""

    pipeline: str
    """Name of the pipeline in the configuration."""
    algorithm: Algorithm
    """For a pipeline that could not be loaded: its name, version ``""``."""
    generation: int
    """Counts the analyses of a series that received images after an earlier one."""
    version: int = 1
    """Counts the results on a series by a pipeline: from 2 on this one takes the place of another."""
    replaces: str = ""
    """What it takes the place of, in words: ``the report of 14:02``; empty for a first version."""
    outcome: Outcome
    reason: str = ""
    """Why it is partial, not applicable or failed, in words for a radiologist."""
    findings: Findings | None = None
    analysed_at: datetime
    """With time zone."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage; kept with the objects as provenance."""
    title: str = ""
    """What physicians read in place of the pipeline's name; empty: that name."""
    withheld: tuple[str, ...] = ()
    """Sentences for the report: objects that could not be made, and why."""
    inputs: tuple[str, ...] = ()
    """What the pipeline was given beside the series: images of companions, the report of an earlier analysis."""
    salt: str = field(default="", repr=False)
    """Secret of the node (``node.jobs.salt``), without which nobody can predict UIDs; empty where there is no node."""
    caveat: str = ""
    """A sentence for the report: which images may be missing."""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.pipeline)
        if self.outcome not in get_args(Outcome):
            raise EncodeError(f"Analysis.outcome is {self.outcome!r}; use one of {', '.join(get_args(Outcome))}")
        if self.analysed_at.tzinfo is None:
            raise EncodeError(f"Analysis.analysed_at {self.analysed_at} has no time zone; use datetime.now(UTC)")
        if self.outcome in ANALYSED and self.findings is None:
            raise EncodeError(f"Analysis.findings is None with the outcome {self.outcome!r}; give what run() returned")
        if self.outcome in ("partial", "not applicable", "failed") and not self.reason:
            raise EncodeError(f"Analysis.reason is empty with the outcome {self.outcome!r}; say why")

    @property
    def derived(self) -> tuple[DerivedSeries, ...]:
        """New images."""
        return self.findings.derived if self.findings else ()

    @property
    def supersession(self) -> str:
        """Sentence on what this takes the place of; empty when it is the first."""
        return f"Version {self.version}; replaces {self.replaces}." if self.replaces else ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What may be missing, what the pipeline says, then what was withheld."""
        caveat = (self.caveat,) if self.caveat else ()
        return (*caveat, *(self.findings.remarks if self.findings else ()), *self.withheld)


Kind = Literal[ObjectKind, "sr on labelmap", "sr alone", "rejection"]
"""Of an object: what a destination can ask for; a report refers to the SEG, to the label map, or to neither."""
OPTIONAL: frozenset[str] = frozenset(
    {"labelmap", "key images", "pdf", "presentation state", "key object selection", "parametric map"}
)
"""Kinds without which the rest of a result is still whole; the others go together or not at all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedObject:
    """One DICOM object, ready to be kept and sent: the bytes are the truth."""

    data: bytes = field(repr=False)
    """A Part 10 file, Explicit VR Little Endian or lossless: RLE for label maps, JPEG 2000 for ``derived j2k``."""
    kind: Kind
    description: str
    """Series Description."""

    @property
    def dataset(self) -> FileDataset:
        """The object as any reader parses it, anew at each call: changing it changes nothing here."""
        return dcmread(BytesIO(self.data))

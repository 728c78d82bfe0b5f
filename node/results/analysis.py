"""The input and output of encoding: one finished analysis of one series, and its DICOM objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Protocol

from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread
from pydicom.sr.codedict import codes

from node.config import Language, ObjectKind
from node.errors import EncodeError
from node.outcome import ANALYSED, Outcome
from node.pipeline import Algorithm, Assertion, DerivedSeries, Findings
from node.reasons import ReasonCode, reason, reason_text
from node.results.similar_text import SimilarEntries
from node.translation import in_every_language
from node.wording import together

NO_STATEMENT = in_every_language(lambda: reason_text(reason(ReasonCode.NO_STATEMENT)))
"""Reason of an outcome that must not be taken for *no findings*."""
_QUALITY = (codes.DCM.ImageQuality, codes.DCM.QualityAssessment)
"""Evaluations of the images, not of what they show."""


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
    def slices(self) -> tuple[int, ...]:
        """Slice of ``geometry`` on which each of ``datasets`` lies: a missing image may have been interpolated."""

    @property
    def left_out(self) -> str:
        """Which images of the series were not analysed, and why; empty when all were."""

    @property
    def modality(self) -> str: ...

    def image(self, index: int) -> NDArray[Any]:
        """Values ``[row, column]`` of one of ``datasets``, Modality LUT applied."""

    def picture(self, index: int) -> NDArray[Any]:
        """One of ``datasets`` as a viewer first shows it: RGB ``[row, column, 3]`` of 8 bits."""

    def stored(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """``image`` of each of the ascending ``indices`` before the Modality LUT; each file is read once."""

    @property
    def series_instance_uid(self) -> str: ...


def of_part(findings: Findings, left_out: str) -> Findings:
    """Return the findings with a remark on images that were left out of the series or are known to be missing."""
    if left_out in findings.partial:  # said already, or there is none
        return findings
    return replace(findings, partial=together(findings.partial, left_out))


def in_order(findings: Findings) -> Findings:
    """Return the findings sorted by certainty, lesions then by size: the order of numbers, colours and reports."""
    return replace(
        findings,
        lesions=tuple(sorted(findings.lesions, key=lambda lesion: lesion.rank)),
        regions=tuple(sorted(findings.regions, key=lambda region: region.rank)),
    )


def outcome_of(findings: Findings) -> Outcome:
    """Return the outcome that follows from the assertions: the first that applies.

    ``partial``: a part was not analysed. ``findings``: something is present (``is_positive``). ``indeterminate``: an
    assertion says so. ``no findings``: the pipeline names what it looked for, or asserts that something is absent.
    ``measured``: there are structures, landmarks, maps, measurements or evaluations. ``derived``: there are new images.
    Otherwise ``failed``: a result that says nothing is no result.
    """
    presences = {assertion.presence for assertion in findings.all_assertions}
    if findings.partial or findings.cut_off:
        return Outcome.PARTIAL
    if is_positive(findings):
        return Outcome.FINDINGS
    if "indeterminate" in presences:
        return Outcome.INDETERMINATE
    if findings.looked_for or "absent" in presences:
        return Outcome.NO_FINDINGS
    measured = findings.segments or findings.regions or findings.maps or findings.measurements or findings.groups
    if measured or any(name not in _QUALITY for name in findings.evaluations):
        return Outcome.MEASURED
    return Outcome.DERIVED if findings.derived else Outcome.FAILED


def reason_of(findings: Findings) -> str:
    """Return why the outcome is *partial* or *failed*, in words for a radiologist; empty for other outcomes."""
    outcome = outcome_of(findings)
    if outcome == Outcome.FAILED:
        return NO_STATEMENT
    return together(findings.partial, findings.cut_off) if outcome == Outcome.PARTIAL else ""


def is_positive(findings: Findings) -> bool:
    """Return whether a lesion, region, assertion or segment of a target structure states that something is present.

    A segment that is not empty and whose category is a morphologically abnormal structure is no organ, and counts.
    """
    sought = (codes.SCT.MorphologicallyAbnormalStructure, *findings.looked_for)
    return (
        bool(findings.lesions or findings.positive_regions)
        or any(assertion.presence == "present" for assertion in findings.all_assertions)
        or any({s.category, s.type} & set(sought) and not s.empty for s in findings.segments)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """One analysis of one series by one pipeline, with any outcome."""

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
    """What the pipeline was given besides the series: images of companions and of other volumes, the report of a prior
    analysis."""
    images: tuple[tuple[str, int | None], ...] = ()
    """SOP Instance UID and frame of the analysed images; empty: all."""
    of_volumes: bool = False
    """The findings are of all volumes of the series, and lie on the first."""
    salt: str = field(default="", repr=False)
    """Secret of the node (``node.inference.node_secret``) that makes UIDs unpredictable; empty without a node."""
    caveat: str = ""
    """A sentence for the report: which images may be missing."""
    languages: tuple[Language, ...] = ("en",)
    """Of the impression."""
    link: str = ""
    """Address of the page of the study on the dashboard, for PDF and key images; empty: they have none."""
    similar: SimilarEntries | None = None
    """Similar earlier findings of the site, for the PDF report."""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.pipeline)
        if self.outcome not in tuple(Outcome):
            raise EncodeError(f"Analysis.outcome is '{self.outcome}'; use one of {', '.join(Outcome)}")
        if self.analysed_at.tzinfo is None:
            raise EncodeError(f"Analysis.analysed_at {self.analysed_at} has no time zone; use datetime.now(UTC)")
        if self.outcome in ANALYSED and self.findings is None:
            raise EncodeError(f"Analysis.findings is None with the outcome '{self.outcome}'; give what run() returned")
        if self.outcome in (Outcome.PARTIAL, Outcome.NOT_APPLICABLE, Outcome.FAILED) and not self.reason:
            raise EncodeError(f"Analysis.reason is empty with the outcome '{self.outcome}'; say why")

    @property
    def derived(self) -> tuple[DerivedSeries, ...]:
        """New images."""
        return self.findings.derived if self.findings else ()

    @property
    def asserted(self) -> tuple[Assertion, ...]:
        """Statements without a location: present, absent or indeterminate."""
        return self.findings.all_assertions if self.findings else ()

    @property
    def positive(self) -> bool:
        """Whether something is stated to be present; also true of a *partial* outcome."""
        return self.findings is not None and is_positive(self.findings)


Kind = Literal[ObjectKind, "sr on labelmap", "sr alone", "rejection"]
"""Of an object: what a destination can ask for; a report refers to the SEG, to the label map, or to neither."""
OPTIONAL: frozenset[str] = frozenset(
    {"labelmap", "image seg", "key images", "pdf", "presentation state", "key object selection", "parametric map"}
    | {"rtstruct"}
)
"""Kinds without which the rest of a result is still whole; the others go together or not at all."""


_LARGE = 1 << 20
"""Bytes of a value of which a parsed object has no copy: the pixels of a SEG with a hundred structures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedObject:
    """One DICOM object ready to be stored and sent; its bytes are authoritative."""

    data: bytes = field(repr=False)
    """A Part 10 file, Explicit VR Little Endian or lossless: RLE for label maps, JPEG 2000 for ``derived j2k``."""
    kind: Kind
    description: str
    """Series Description."""

    @property
    def dataset(self) -> FileDataset:
        """A freshly parsed data set; changing it does not change this object. Large values are read when looked up."""
        return dcmread(BytesIO(self.data), defer_size=_LARGE)

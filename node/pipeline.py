"""The plug-in contract: everything a pipeline author needs, and nothing of the network.

A pipeline is made by a factory ``(*, weights, device, options) -> Pipeline`` and has ``algorithm``, ``needs`` and
``run(series) -> Findings``. It never sees a socket, a queue, a UID or a file to write.

Arrays are always indexed ``[slice, row, column]``. ``Volume`` is highdicom's: ``array`` and ``affine``, a 4 x 4
matrix from ``(slice, row, column, 1)`` to LPS millimetres (x to the patient's Left, y to Posterior, z to the Head;
PS3.3 C.7.6.2.1.1).
A pipeline may reorient, crop and resample freely: the node puts masks back on the grid of the source images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from highdicom import Volume
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

__all__ = [
    "Algorithm",
    "Code",
    "DerivedSeries",
    "Factory",
    "Findings",
    "Lesion",
    "Map",
    "Measurement",
    "Needs",
    "Pipeline",
    "Prior",
    "PriorFinding",
    "Segment",
    "Series",
    "Unsuitable",
    "Volume",
    "codes",
    "content_digest",
]


def content_digest(path: Path) -> str:
    """SHA-256 (lower-case hex) of a model: of the file, or of a folder's sorted list of digests and relative paths.

    The list has the form that ``sha256sum`` prints.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted(found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file())
    listing = "".join(f"{content_digest(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


class Unsuitable(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by ``run`` when the images cannot be analysed; the text is the reason the radiologist reads."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Who made the result (TID 4019 Algorithm Identification)."""

    name: str
    version: str
    family: Code = codes.DCM.ArtificialIntelligence
    weights_sha256: str | None = None
    """Lower-case hex digest of the weights in use; part of the provenance of every object."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What influences the output beside the weights, for example ``{"threshold": "0.5", "precision": "fp32"}``."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a series must offer; checked on headers before a device is touched. Unmet: outcome *not applicable*."""

    modalities: frozenset[str]
    """Modality (0008,0060) values, for example ``frozenset({"CT"})``."""
    body_parts: frozenset[str] = frozenset()
    """Body Part Examined (0018,0015) values; empty accepts all, and a source without the attribute is accepted."""
    min_slices: int = 1
    max_slice_spacing_mm: float | None = None
    max_pixel_spacing_mm: float | None = None
    planes: frozenset[str] = frozenset()
    """Of ``{"axial", "coronal", "sagittal", "oblique"}``; empty accepts all."""
    min_coverage_mm: float | None = None
    """From the first image to the last along their normal: less shows only a part of the organ."""
    min_field_mm: float | None = None
    """Shorter side of the images."""
    levels: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """Percentile of the grey levels (a sample of the images; CT: HU) -> least and greatest value that the pipeline
    was made for: ``{5: (-1100, -300)}`` wants air in a chest CT. Beyond lies what no model was trained or tested on."""
    regular_grid: bool = True
    """Equal steps between slices, no gap, no repeated position."""


@dataclass(frozen=True, kw_only=True)
class PriorFinding:
    """One finding of an earlier analysis."""

    finding: Code
    """What it was, for example ``codes.SCT.Nodule``."""
    volume_mm3: float
    tracking_uid: str = ""
    """Its name through all studies: the same lesion keeps it."""
    place_mm: tuple[float, float, float] | None = None
    """Its middle on the image where its area was greatest, LPS mm in the earlier study; ``None``: not known."""
    mask: Volume | None = None
    """What was outlined, non-zero inside, cropped to it; LPS mm in the earlier study. ``None``: not to be had."""
    probability: float | None = None
    """As it was reported then, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The report of this pipeline on an earlier study of the same patient."""

    study_date: date
    version: str
    """Of the algorithm then."""
    findings: tuple[PriorFinding, ...]
    """Empty: nothing was found then."""
    series: Series | None = None
    """These images, where they are still to be had."""
    partial: bool = False
    """Only a part of them was analysed."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the algorithm then, with ``weights_sha256``; empty: not known."""


class Series(Protocol):
    """One complete image series as a pipeline sees it."""

    @property
    def modality(self) -> str: ...

    def attribute(self, keyword: str) -> Any:
        """Value of a DICOM attribute of the first image by keyword (``"ConvolutionKernel"``), ``None`` when absent."""

    @property
    def prior(self) -> Prior | None:
        """The latest earlier analysis, where the rule asks for one (``[rules.prior]``) and one was found.

        The node itself says which lesion is which, and how each has changed.
        """

    def companion(self, name: str) -> Series | None:
        """Another series of the same study, by the name that the rule gives it (``[rules.companions.NAME]``).

        ``None`` when the rule names none, or when it did not come in time and is not required. It has a grid of its
        own; where the frame of reference is the same, both lie in the same LPS space.
        """

    def volume(self, orientation: str | None = None) -> Volume:
        """The series as one volume.

        ``array`` is C-contiguous float32 ``[slice, row, column]`` with the Modality LUT applied (CT: HU; Real World
        Value Map off). ``orientation``: the patient direction in which each of the three axes grows, of L R A P H F:
        ``"HPL"`` is axial slices from foot to head, rows to posterior, columns to the patient's left.
        ``None``: as acquired, slices sorted along the normal. Axes are permuted and flipped, never resampled.
        With a tilted gantry the images are shifted by whole pixels and the rest is filled with their least value.

        When most of the images form one regular grid it is of these, and the node makes the outcome *partial*.
        Raises ``Unsuitable`` when they do not.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One mask with its meaning (PS3.3 C.8.20.4)."""

    label: str
    """Unique within the findings, at most 64 characters, for example ``"Nodule 1"``."""
    mask: Volume
    """Non-zero = inside, integer or bool ``[slice, row, column]``; any grid in the source's frame of reference."""
    category: Code
    """Segmented property category, for example ``codes.SCT.MorphologicallyAbnormalStructure``."""
    type: Code
    """Segmented property type, for example ``codes.SCT.Nodule``."""
    colour: tuple[int, int, int] = (255, 64, 64)
    """Recommended display colour, sRGB 0-255."""

    def __post_init__(self) -> None:
        if not 0 < len(self.label) <= 64:
            raise ValueError(f"Segment.label {self.label!r} has {len(self.label)} characters; use 1 to 64")
        if self.mask.array.ndim != 3:
            raise ValueError(f"Segment.mask of {self.label!r} is {self.mask.array.shape}; give [slice, row, column]")
        if self.mask.array.dtype.kind not in "bui":
            raise ValueError(f"Segment.mask of {self.label!r} is {self.mask.array.dtype}; give bool or integers")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number with name and unit (TID 300)."""

    name: Code
    value: float
    unit: Code
    """UCUM code, for example ``codes.UCUM.Millimeter``."""
    derivation: Code | None = None
    """How it was derived (CID 7464) where ``name`` does not say it, for example ``codes.SCT.Mean``."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise ValueError(f"Measurement {self.name.meaning!r} is {self.value}; leave out what cannot be measured")


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesion:
    """One finding: a segment and what is said of it. The node adds volume, diameters and mean HU or signal."""

    segment: Segment
    finding: Code
    """What it is, for example ``codes.SCT.Nodule``."""
    site: Code | None = None
    """Anatomic site (CID 4 and relatives), for example ``codes.SCT.Lung``."""
    laterality: Code | None = None
    """``codes.SCT.Left`` / ``Right`` of the patient, when it is known."""
    measurements: tuple[Measurement, ...] = ()
    probability: float | None = None
    """Of the finding being real, 0 to 1, as the algorithm states it."""
    tracking_uid: str = ""
    """Of the same lesion in an earlier study; the node finds it, and makes a new one where there is none."""
    evaluations: Mapping[Code, Code] = field(default_factory=dict)
    """What was judged, and how, for example ``{texture: part_solid}``; write-a-pipeline.md lists codes."""

    def __post_init__(self) -> None:
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"Lesion.probability of {self.segment.label!r} is {self.probability}; use 0 to 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class DerivedSeries:
    """New pixels on the source's own grid, for example a denoised CT; added beside the source, never in its place."""

    volume: Volume
    """Float array in the unit of ``Series.volume`` (CT: HU), same voxels as the source, any axis order; rounded to the
    source's rescale slope, and no value may be farther from its intercept than 16 bits reach."""
    description: str
    """Series Description (0008,103E), at most 64 characters."""
    derivation: Code
    """Derivation code (CID 7203), for example ``codes.DCM.Smoothing``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """A quantity in every voxel, for example the probability of a finding; shown over the images, never in a report."""

    name: str
    """Unique within the findings, at most 40 characters, for example ``"Probability of nodule"``."""
    volume: Volume
    """Float array ``[slice, row, column]`` on any grid in the source's frame of reference; outside of it: 0."""
    quantity: Code
    """What it is (CID 7180), for example ``codes.DCM.Probability`` or ``codes.DCM.Saliency``."""
    unit: Code = codes.UCUM.NoUnits
    """UCUM code."""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= 40:
            raise ValueError(f"Map.name {self.name!r} has {len(self.name)} characters; use 1 to 40")
        if self.volume.array.ndim != 3 or self.volume.array.dtype.kind != "f":
            raise ValueError(f"Map.volume of {self.name!r} is {self.volume.array.dtype}; give floats in 3 dimensions")


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What ``run`` returns. No lesion and no non-empty segment means the explicit outcome *no findings*."""

    lesions: tuple[Lesion, ...] = ()
    segments: tuple[Segment, ...] = ()
    """Structures that are no lesion (an organ, the lungs). Lesions bring their own segment."""
    derived: tuple[DerivedSeries, ...] = ()
    maps: tuple[Map, ...] = ()
    """For those who want to see why; they say nothing about the outcome."""
    remarks: tuple[str, ...] = ()
    """Sentences for the report: limits of this analysis."""
    evaluations: Mapping[Code, Code] = field(default_factory=dict)
    """As of a lesion, of the images as a whole: ``{codes.DCM.ImageQuality: codes.DCM.PoorImageQuality}``."""
    partial: str = ""
    """Why only a part could be analysed, in words for a radiologist; makes the outcome *partial*."""

    def __post_init__(self) -> None:
        labels = [s.label for s in self.all_segments]
        if len(set(labels)) != len(labels):
            raise ValueError(f"Findings: segment labels repeat: {labels}")

    @property
    def all_segments(self) -> tuple[Segment, ...]:
        """Segments of lesions first, in the order of the lesions, then the others."""
        return tuple(lesion.segment for lesion in self.lesions) + self.segments


class Pipeline(Protocol):
    """A loaded model. ``run`` is called for one series at a time, from one thread, many times."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def needs(self) -> Needs: ...

    def run(self, series: Series) -> Findings:
        """Analyse one series.

        Raises ``Unsuitable(reason)`` when the images cannot be analysed: that is an outcome, delivered as such.
        Any other exception is a failure: retried, then delivered as *failed*.
        """


class Factory(Protocol):
    """``[pipelines.NAME] factory = "module:factory"`` or an entry point of the group ``ainode.pipelines``."""

    def __call__(self, *, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
        """Load once.

        ``weights``: ``None`` for the packaged ones; ``device``: ``"cpu"`` or ``"cuda:0"``; ``options``: the table
        ``[pipelines.NAME.options]``. Raises ``WeightsError`` or ``ValueError`` with field, value and remedy.
        """

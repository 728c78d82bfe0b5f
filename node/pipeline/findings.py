"""What a pipeline returns: lesions, regions, structures, assertions, derived images, maps and their coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.pipeline.assertion import Assertion, Presence, presence_of
from node.pipeline.embedding import EmbeddingSpace, check_embeddings, checked_embedding
from node.pipeline.label_map import LARGEST_VALUE, boxes_of, inside
from node.pipeline.measurement import (
    Measurement,
    MeasurementGroup,
    check_codes,
    check_label,
    check_once,
    check_unplaced,
    keep_tuples,
)
from node.pipeline.picture import MOST_PICTURES, Picture
from node.pipeline.region import Region
from node.pipeline.ucum import unit_fault


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One mask with its meaning (PS3.3 C.8.20.4)."""

    label: str
    """Unique within the findings, at most 64 characters, for example ``"Nodule 1"``."""
    mask: Volume
    """Non-zero = inside, integer or bool ``[slice, row, column]``; any grid in the source's frame of reference."""
    value: int | None = None
    """Inside is where ``mask``, a label map that segments share, has this value, 1 to 65535."""
    category: Code
    """Segmented property category, for example ``codes.SCT.MorphologicallyAbnormalStructure``."""
    type: Code
    """Segmented property type, for example ``codes.SCT.Nodule``."""
    colour: tuple[int, int, int] | None = None
    """Recommended display colour, sRGB 0-255; ``None``: the node gives each segment one of its own."""
    laterality: Code | None = None
    """Of a structure: ``codes.SCT.Left`` / ``Right`` of the patient. A lesion states its own."""
    measurements: tuple[Measurement, ...] = ()
    """Of a structure; a volume stated here goes before the node's own. A lesion states its own."""

    def __post_init__(self) -> None:
        keep_tuples(self)
        check_label("Segment", self.label)
        check_codes("Segment", category=self.category, type=self.type)
        check_unplaced(self.label, self.measurements)
        if self.mask.array.ndim != 3:
            raise ValueError(f"Segment.mask of {self.label!r} is {self.mask.array.shape}; give [slice, row, column]")
        if self.mask.array.dtype.kind not in "bui":
            raise ValueError(f"Segment.mask of {self.label!r} is {self.mask.array.dtype}; give bool or integers")
        if self.value is not None and (self.mask.array.dtype.kind == "b" or not 1 <= self.value <= LARGEST_VALUE):
            raise ValueError(
                f"Segment.value of {self.label!r} is {self.value} in {self.mask.array.dtype}; "
                f"use 1 to {LARGEST_VALUE} in a mask of integers"
            )

    @property
    def voxels(self) -> NDArray[np.bool_]:
        """What is inside, of the whole array of ``mask``."""
        return inside(np.asarray(self.mask.array), self.value)

    @property
    def empty(self) -> bool:
        """Whether no voxel is inside."""
        return boxes_of([self]) == [None]

    @property
    def voxel_count(self) -> int:
        """Number of voxels of ``mask`` inside."""
        (box,) = boxes_of([self])
        return 0 if box is None else int(np.count_nonzero(inside(self.mask.array[box], self.value)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesion:
    """One finding: a segment with its description. The node adds volume, diameters and mean HU or signal."""

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
    embedding: Sequence[float] = ()
    """Vector of ``Findings.embedding_space``, by which the node finds similar findings; it is in no DICOM object."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "embedding", checked_embedding(self.segment.label, self.embedding))
        keep_tuples(self)
        check_codes("Lesion", finding=self.finding)
        check_unplaced(self.segment.label, self.measurements)
        if presence_of(self.evaluations.get(self.finding)) == "absent":
            raise ValueError(f"Lesion {self.segment.label!r} is said to be absent in its evaluations; leave it out")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"Lesion.probability of {self.segment.label!r} is {self.probability}; use 0 to 1")

    @property
    def rank(self) -> tuple[int, float]:
        """Lesions are reported in this order: certain ones (80 % and more), likely ones (50 %), others; large first."""
        sure = -1.0 if self.probability is None else self.probability
        volume = self.segment.voxel_count * self.segment.mask.voxel_volume
        return sum(sure < limit for limit in (0.8, 0.5, 0.0)), -float(volume)


@dataclass(frozen=True, kw_only=True, eq=False)
class DerivedSeries:
    """New pixels on the source's own grid, for example a denoised CT; added to the source, never in its place."""

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
        if fault := unit_fault(self.unit.value, self.unit.scheme_designator):
            raise ValueError(f"Map {self.name!r}: {fault}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What ``run`` returns. The outcome follows from it: see ``node.results.outcome_of``.

    No lesion alone is no statement. *No findings* is said only when ``looked_for`` names what was looked for, or when
    something is asserted to be absent. Raises ``ValueError`` for statements that contradict one another.
    """

    lesions: tuple[Lesion, ...] = ()
    regions: tuple[Region, ...] = ()
    """Findings and landmarks with a point, line, box or ellipse instead of a mask."""
    segments: tuple[Segment, ...] = ()
    """Structures that are no lesion (an organ, the lungs). Lesions bring their own segment."""
    derived: tuple[DerivedSeries, ...] = ()
    maps: tuple[Map, ...] = ()
    """For those who want to see why; they say nothing about the outcome."""
    pictures: tuple[Picture, ...] = ()
    """Shown with the key images; they say nothing about the outcome."""
    remarks: tuple[str, ...] = ()
    """Sentences for the report: limits of this analysis."""
    looked_for: tuple[Code, ...] = ()
    """What the pipeline looked for in these images, for example ``(codes.SCT.Nodule,)``; empty: it only measures."""
    assertions: tuple[Assertion, ...] = ()
    """What a classifier says of the images as a whole: something is present, absent or indeterminate."""
    measurements: tuple[Measurement, ...] = ()
    """Of the study as a whole, for example a score; a patient without findings has them as well."""
    groups: tuple[MeasurementGroup, ...] = ()
    """Of organs and diseases that have no mask."""
    evaluations: Mapping[Code, Code] = field(default_factory=dict)
    """As of a lesion, of the images as a whole: ``{codes.DCM.ImageQuality: codes.DCM.PoorImageQuality}``. A value such
    as Present, Negative or Indeterminate is an assertion about the name, and counts as one."""
    partial: str = ""
    """Why only a part could be analysed, in words for a radiologist; makes the outcome *partial*."""
    cut_off: str = ""
    """Where the anatomy reaches the first or the last image, in words for a radiologist, for example ``"The lungs reach
    the last image: their lower end was not seen."``; makes the outcome *partial*."""
    embedding_space: EmbeddingSpace | None = None
    """Of the embeddings of ``lesions``; ``None``: they have none."""

    def __post_init__(self) -> None:
        keep_tuples(self)
        check_embeddings(
            self.embedding_space, ((lesion.segment.label, tuple(lesion.embedding)) for lesion in self.lesions)
        )
        labels = [s.label for s in self.all_segments]
        if len(set(labels)) != len(labels):
            raise ValueError(f"Findings: segment labels repeat: {labels}")
        groups = [group.label for group in self.groups] + [region.label for region in self.regions]
        if len({*groups, *labels}) != len(groups) + len(labels):
            raise ValueError(f"Findings: labels of groups or regions repeat, or are those of segments: {groups}")
        pictures = [picture.label for picture in self.pictures]
        if len(set(pictures)) != len(pictures) or len(pictures) > MOST_PICTURES:
            raise ValueError(f"Findings.pictures are {pictures}; give at most {MOST_PICTURES}, each with its own label")
        check_once("the study", self.measurements)
        check_unplaced("the study", self.measurements)
        presences: dict[Code, Presence] = {lesion.finding: "present" for lesion in self.lesions}
        presences |= {region.finding: "present" for region in self.positive_regions}
        for assertion in self.all_assertions:
            if presences.setdefault(assertion.finding, assertion.presence) != assertion.presence:
                raise ValueError(
                    f"Findings: {assertion.finding.meaning!r} is said to be {presences[assertion.finding]} and "
                    f"{assertion.presence}; say one"
                )

    @property
    def all_assertions(self) -> tuple[Assertion, ...]:
        """``assertions``, then those that ``evaluations`` make."""
        explicit = {assertion.finding: assertion.presence for assertion in self.assertions}
        judged = ((name, presence_of(value)) for name, value in self.evaluations.items())
        return self.assertions + tuple(
            Assertion(finding=name, presence=presence)
            for name, presence in judged
            if presence is not None and explicit.get(name) != presence
        )

    @property
    def positive_regions(self) -> tuple[Region, ...]:
        """Regions that are findings."""
        return tuple(region for region in self.regions if not region.landmark)

    @property
    def all_segments(self) -> tuple[Segment, ...]:
        """Segments of lesions first, in the order of the lesions, then the others."""
        return tuple(lesion.segment for lesion in self.lesions) + self.segments

"""Finding: number, names and measurements of one mask, as SEG and SR state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from highdicom import VolumeGeometry
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.errors import EncodeError
from node.pipeline import Findings, Lesion, Measurement, Segment
from node.pipeline.label_map import boxes_of
from node.results.analysis import Source
from node.results.identity import plain
from node.results.mask_measurement import Section, intensities, largest_section, too_coarse, values_in, volume_mm3
from node.results.segment_colours import colour_of
from node.results.source_grid import PlacedMask, on_images, place, with_images
from node.results.terms import evaluation_lines, in_text, label_in_words, term
from node.results.uids import derive_uid
from node.translation import Sentence, decimal, gettext, sentence
from node.wording import digits, in_words


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """One lesion, or one other structure that is not empty, on the source grid."""

    number: int
    """Segment Number, from 1."""
    lesion: bool
    """A finding; else a structure that was outlined."""
    segment: Segment
    colour: tuple[int, int, int]
    """sRGB 0-255, the same in SEG, key image and PDF."""
    finding: Code
    site: Code | None
    laterality: Code | None
    probability: float | None
    stated: tuple[Measurement, ...]
    """What the pipeline measured."""
    judged: Mapping[Code, Code]
    """What the pipeline judged, and how."""
    mask: PlacedMask
    section: Section
    volume_mm3: float
    intensities: tuple[Measurement, ...]
    """Of a lesion in CT or MR: mean, standard deviation, least and greatest value; else empty."""
    image: str
    """Where it is largest, as people find it: ``"Image 57"``, by Instance Number; a ``Sentence``."""
    rough: str
    """Why the images are too coarse for it to be measured well; empty when they are not."""
    tracking_uid: str

    @property
    def tracking_id(self) -> str:
        """Tracking Identifier: the label, unique within the objects of one analysis."""
        return plain(self.segment.label) or f"Segment {self.number}"

    @property
    def label(self) -> str:
        """Its name."""
        return self.segment.label

    @property
    def label_in_words(self) -> str:
        """Its name in texts and pictures, in the language that is spoken."""
        return label_in_words(self.label, self.finding.meaning, self.laterality)

    def planar(self) -> tuple[Measurement, ...]:
        """Axes on the slice of greatest area, the most important first."""
        axes = (
            Measurement(name=codes.SCT.LongAxis, value=self.section.long_axis_mm, unit=codes.UCUM.Millimeter),
            Measurement(name=codes.SCT.ShortAxis, value=self.section.short_axis_mm, unit=codes.UCUM.Millimeter),
        )
        return self._unless_stated(axes)

    def volumetric(self) -> tuple[Measurement, ...]:
        """Volume, certainty, what the pipeline states, then values of the images: some viewers show the first five."""
        own = [Measurement(name=codes.SCT.Volume, value=self.volume_mm3, unit=codes.UCUM.CubicMillimeter)]
        if self.probability is not None:
            percent = self.probability * 100
            own.append(Measurement(name=codes.DCM.CertaintyOfFinding, value=percent, unit=codes.UCUM.Percent))
        return (*self._unless_stated(own), *self.stated, *self._unless_stated(self.intensities))

    def _unless_stated(self, own: Sequence[Measurement]) -> tuple[Measurement, ...]:
        """The pipeline's own value goes before the node's: viewers show each name once."""
        return tuple(m for m in own if all((m.name, m.derivation) != (s.name, s.derivation) for s in self.stated))

    def evaluations(self) -> Mapping[Code, Code]:
        """Evaluations of the pipeline, and whether the images are too coarse to measure the finding (CID 6044).

        Nobody assesses the quality of the images otherwise, so nothing is said of images that are fine enough.
        """
        poor = {codes.DCM.QualityAssessment: codes.DCM.UsableDoesNotMeetTheQualityControlStandard} if self.rough else {}
        side = {} if self.laterality is None or self.site is not None else {codes.SCT.Laterality: self.laterality}
        return {**side, **poor, **self.judged}

    def described(self) -> tuple[str, ...]:
        """Lines of text: finding and site, then evaluations."""
        return in_text(self.finding, self.site, self.laterality), *evaluation_lines(self.judged)

    def measured(self) -> tuple[str, ...]:
        """Lines of text: measurements and their limits."""
        return (
            *(
                in_words(term(m.name.meaning), m.value, m.unit.value)
                for m in (*self.planar(), *self.volumetric())
                if m not in self.intensities
            ),
            *self._intensity_in_words(),
            *([f"{self.rough}"] if self.rough else []),
        )

    def _intensity_in_words(self) -> tuple[str, ...]:
        if not self.intensities:
            return ()
        mean, *others = self.intensities
        name = gettext("Mean") if mean.unit != codes.UCUM.NoUnits else gettext("Mean signal")
        deviation, low, high = (decimal(digits(m.value, m.unit.value)) for m in others)
        spread = gettext("SD {deviation}, {low} to {high}", deviation=deviation, low=low, high=high)
        return (gettext("{value} ({spread})", value=in_words(name, mean.value, mean.unit.value), spread=spread),)


def image_name(source: Source, index: int) -> Sentence:
    """Return ``"Image 57"``, by Instance Number, which identifies an image in any viewer.

    Frames count from the first, and those of a cine loop have its number, too; an image without a number has its place
    along the slice normal.
    """
    image = source.datasets[index]
    frame, number = image.get("ReferencedFrameNumber"), image.get("InstanceNumber")
    beside = [(d.SOPInstanceUID, d.get("InstanceNumber")) for d in source.datasets[max(index - 1, 0) : index + 2]]
    if frame and number and beside.count((image.SOPInstanceUID, number)) > 1:
        return sentence("Image {number}, frame {frame}", number=number, frame=frame)
    return sentence("Image {number}", number=frame or number or index + 1)


def place_findings(findings: Findings, source: Source, geometry: VolumeGeometry, key: str) -> tuple[Finding, ...]:
    """Lesions in their order, then the other segments that are not empty, all on the images of ``source``.

    Raises ``EncodeError`` for a lesion with an empty mask, and as ``grid.place`` does.
    """
    placed: list[Finding] = []
    masks, volumes = [], []
    entries: list[tuple[Segment, Lesion | None]] = [(lesion.segment, lesion) for lesion in findings.lesions]
    entries += [(segment, None) for segment in findings.segments]
    for (segment, lesion), box in zip(entries, boxes_of([segment for segment, _ in entries]), strict=True):
        whole = place(segment.mask, geometry, segment.label, value=segment.value, box=box)
        imaged = with_images(whole, source.slices)
        mask = on_images(imaged, source.offsets, int(source.datasets[0].Rows), int(source.datasets[0].Columns))
        if mask.empty and lesion is not None:
            raise EncodeError(f"Lesion {segment.label!r} has an empty mask; return only lesions that have voxels")
        masks.append(mask)
        between = 0.0 if imaged is whole else volume_mm3(whole, geometry) - volume_mm3(imaged, geometry)
        volumes.append(volume_mm3(mask, geometry) + between)
    values = values_in(masks[: len(findings.lesions)], source)
    for number, ((segment, lesion), mask) in enumerate(zip(entries, masks, strict=True)):
        if mask.empty:
            continue
        colour = segment.colour or colour_of(len(placed))
        section = largest_section(mask, geometry)
        placed.append(
            Finding(
                number=len(placed) + 1,
                lesion=lesion is not None,
                segment=segment,
                colour=colour,
                finding=segment.type if lesion is None else lesion.finding,
                site=(segment.type if segment.laterality else None) if lesion is None else lesion.site,
                laterality=segment.laterality if lesion is None else lesion.laterality,
                probability=None if lesion is None else lesion.probability,
                stated=segment.measurements if lesion is None else lesion.measurements,
                judged={} if lesion is None else lesion.evaluations,
                mask=mask,
                section=section,
                volume_mm3=volumes[number],
                intensities=() if lesion is None else intensities(values[number], source.datasets[mask.box[0].start]),
                image=image_name(source, section.slice_index),
                rough=too_coarse(section, geometry),
                tracking_uid=(lesion.tracking_uid if lesion else "") or derive_uid(key, "tracking", segment.label),
            )
        )
    return tuple(placed)

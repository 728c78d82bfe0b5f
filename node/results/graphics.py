"""Graphics: what is drawn on source images, of findings, regions and measurements alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.pipeline import Findings
from node.results.analysis import Source
from node.results.finding import Finding
from node.results.identity import plain
from node.results.placed_region import Floats, PlacedRegion, drawn, place_shape
from node.results.segment_colours import colour_of
from node.results.source_grid import PlacedMask
from node.results.terms import label_in_words, term
from node.results.uids import derive_uid
from node.wording import in_words


@dataclass(frozen=True, kw_only=True, eq=False)
class Graphic:
    """A point, or a line, on one image."""

    place: int
    """Index of the image in ``Source.datasets``."""
    points: Floats
    """(column, row) of the line that draws it, closed where it encloses something; one point for a point."""
    label: str
    label_in_words: str
    """The label in the language of the captions."""
    lines: tuple[str, ...]
    """What is known of it."""
    colour: tuple[int, int, int]
    """sRGB 0-255."""
    tracking_id: str
    tracking_uid: str
    mask: PlacedMask | None = None

    def inside(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Pixels ``[row, column]`` of an image of this shape that belong to a mask; none where there is no mask."""
        pixels = np.zeros(shape, np.bool_)
        if self.mask is not None:
            pixels[self.mask.box[1:]] = self.mask.plane(self.place)
        return pixels


def graphics_of_findings(findings: Iterable[Finding]) -> list[Graphic]:
    """Return the outline of each finding where it is largest."""
    return [
        Graphic(
            place=finding.section.slice_index,
            points=finding.section.outline,
            label=finding.label,
            label_in_words=finding.label_in_words,
            lines=(*finding.described(), *finding.measured()),
            colour=finding.colour,
            tracking_id=finding.tracking_id,
            tracking_uid=finding.tracking_uid,
            mask=finding.mask,
        )
        for finding in findings
    ]


def graphics_of_shapes(
    regions: Sequence[PlacedRegion], findings: Findings, source: Source, key: str
) -> tuple[Graphic, ...]:
    """Return what lies on an image: regions in their order, then shapes of measurements."""
    return (*_of_regions(regions), *_of_measurements(findings, source, key, len(regions)))


def _of_regions(regions: Iterable[PlacedRegion]) -> Iterator[Graphic]:
    for region in regions:
        if region.on_image is not None:
            yield Graphic(
                place=region.on_image.place,
                points=region.outline(),
                label=region.label,
                label_in_words=region.label_in_words,
                lines=(*region.described(), *region.measured()),
                colour=region.colour,
                tracking_id=region.tracking_id,
                tracking_uid=region.tracking_uid,
            )


def _of_measurements(findings: Findings, source: Source, key: str, before: int) -> Iterator[Graphic]:
    """Shapes of one measurement have one colour; only the first has its text."""
    measured = (
        (group, measurement) for group in findings.groups for measurement in group.measurements if measurement.shapes
    )
    for number, (group, measurement) in enumerate(measured):
        lines: tuple[str, ...] = (in_words(term(measurement.name.meaning), measurement.value, measurement.unit.value),)
        for shape in measurement.shapes:
            on_image = place_shape(shape, source, group.label)
            if on_image is None:
                continue
            yield Graphic(
                place=on_image.place,
                points=drawn(shape, on_image.points),
                label=group.label,
                label_in_words=label_in_words(group.label, group.finding.meaning, group.laterality),
                lines=lines,
                colour=colour_of(before + number),
                tracking_id=plain(group.label),
                tracking_uid=derive_uid(key, "tracking group", group.label),
            )
            lines = ()

"""Key images: findings as colour pictures, for viewers that do not show SEG or SR.

Secondary Capture (PS3.3 A.8.1), one per finding with a mask, of the slice where it is largest; ``region_image`` draws
the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes

from node.outcome import Outcome
from node.pipeline import Map
from node.results.analysis import Analysis, Source
from node.results.equipment import MANUFACTURER
from node.results.finding import Finding
from node.results.headers import describe_body_part, mark_lossy, reference
from node.results.identity import noted, plain
from node.results.naming import series_description, series_number
from node.results.parametric_map import on_image
from node.results.picture_text import caption, caption_lines, typeface
from node.results.rendering import (
    BACKGROUND,
    FAINT,
    HOT,
    INK,
    WARNING,
    Colour,
    axis_of,
    detail_of,
    draw_letters,
    draw_lines,
    draw_outline,
    patient_orientation,
    render,
    tint,
    window_of,
)
from node.results.report_text import supersession_of
from node.results.terms import term
from node.results.uids import derive_uid
from node.studies.source_image import laterality_of
from node.translation import decimal, gettext
from node.wording import NOTICE

KEY_IMAGES = 10
"""Most key images of one analysis: those of the largest findings."""
EDGE = 768
"""Longer side of the slice, in pixels of the picture."""
COLUMN = 320
"""Width of the column beside it, with the detail and the text."""
_TEXT = 15
_AXES = ((255, 255, 96), (96, 255, 255))
"""Colours of the long and the short axis."""


class Picture(NamedTuple):
    """One key image."""

    place: int
    """Index of the image in ``Source.datasets``."""
    name: str
    """Unique among the key images of an analysis."""
    label: str
    """Of what is drawn."""
    drawing: Image.Image


def key_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The largest lesions in their order; without any, the largest other structures."""
    chosen = [f for f in findings if f.lesion] or list(findings)
    largest = sorted(chosen, key=lambda f: -f.volume_mm3)[:KEY_IMAGES]
    return [f for f in chosen if f in largest]


def encode_key_images(
    analysis: Analysis, source: Source, pictures: Sequence[Picture], *, key: str, link: Image.Image | None = None
) -> Iterator[SCImage]:
    """One Secondary Capture for each of ``pictures``; identity and times are stamped on later.

    ``link``: a picture of ``COLUMN`` pixels across that each shows below its text.
    """
    for number, picture in enumerate(pictures, 1):
        original = source.datasets[picture.place]
        image = SCImage(
            pixel_array=np.asarray(picture.drawing if link is None else _with_link(picture.drawing, link)),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=str(original.StudyInstanceUID),
            series_instance_uid=derive_uid(key, "key images"),
            series_number=series_number(analysis, source, 90),
            sop_instance_uid=derive_uid(key, "key image", picture.name),
            instance_number=number,
            manufacturer=MANUFACTURER,
            patient_orientation=patient_orientation(original) or ("L", "F"),  # highdicom asks for one
            series_description=series_description(analysis, source, "key images"),
        )
        image.ConversionType = "WSD"
        del image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture  # highdicom's clock; Content Date says it
        image.BurnedInAnnotation = "YES"
        if patient_orientation(original) is None:
            del image.PatientOrientation
            image["PatientOrientation"] = DataElement("PatientOrientation", "CS", None)
        label = " ".join(filter(None, (f"{picture.label}.", supersession_of(analysis))))
        image.ImageComments = noted(label.removesuffix("."), 10240)
        where = "its largest slice" if source.modality in ("CT", "MR", "PT") else "its image"
        image.DerivationDescription = plain(f"Drawing of {picture.label} on {where}", 1024)
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference(original)
        if "ReferencedFrameNumber" in original:
            item.ReferencedFrameNumber = original.ReferencedFrameNumber
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
        image.SourceImageSequence = [item]
        mark_lossy(image, original)
        describe_body_part(image, source)
        if "Laterality" in image and laterality_of(original):
            del image.Laterality
            image.ImageLaterality = laterality_of(original)
        yield image


def _with_link(drawing: Image.Image, link: Image.Image) -> Image.Image:
    """Put ``link`` at the lower end of the column beside the slice, below the text; the picture grows if it must."""
    is_drawn = (np.asarray(drawing)[:, EDGE:] != BACKGROUND).any(axis=(1, 2))
    text_end = int(np.flatnonzero(is_drawn)[-1]) + 1
    height = max(drawing.height, text_end + link.height)
    page = Image.new("RGB", (drawing.width, height + height % 2), BACKGROUND)
    page.paste(drawing, (0, 0))
    page.paste(link, (EDGE, page.height - link.height))
    return page


def draw_key_image(analysis: Analysis, source: Source, finding: Finding, findings: Sequence[Finding]) -> Image.Image:
    """The slice with every finding on it outlined, a magnified detail of ``finding``, and what is known of it."""
    index = finding.section.slice_index
    original, values = source.datasets[index], source.image(index)
    spacing = (float(original.PixelSpacing[0]), float(original.PixelSpacing[1]))
    mask = on_slice(finding, index, values.shape)
    window = window_of(values, mask, original)
    slice_picture = render(values, spacing, EDGE, window)
    for other in findings:
        if other is not finding and other.lesion and other.mask.box[0].start <= index < other.mask.box[0].stop:
            beside = on_slice(other, index, values.shape)
            draw_outline(slice_picture, beside, other.colour, 1)
            _draw_number(slice_picture, beside, other)
    draw_outline(slice_picture, mask, finding.colour, 2)
    detail = detail_of(mask, values.shape)
    if detail is None:
        _draw_axes(slice_picture, finding, (slice(0, values.shape[0]), slice(0, values.shape[1])))
    else:
        _draw_box(slice_picture, mask, finding.colour)
    draw_letters(slice_picture, axis_of(original, 0), axis_of(original, 1))
    insets: list[Image.Image] = []
    part = detail or (slice(0, values.shape[0]), slice(0, values.shape[1]))

    def inset() -> Image.Image:
        picture = render(values[part], spacing, COLUMN, window)
        draw_outline(picture, mask[part], finding.colour, 1)
        insets.append(picture)
        return picture

    if detail is not None:
        _draw_axes(inset(), finding, detail)
    lines = _lines(analysis, finding, findings, window)
    why = _explanation(analysis)
    if why is not None:
        tint(inset(), on_image(why, source, index)[part])
        lines.insert(0, (caption(gettext("Coloured: {name}", name=term(why.name))), HOT))
    return compose(slice_picture, insets, lines)


def _explanation(analysis: Analysis) -> Map | None:
    """The map that says why, by the pipeline's own choice: saliency, else probability."""
    maps = analysis.findings.maps if analysis.findings else ()
    for quantity in (codes.DCM.Saliency, codes.DCM.Probability):
        for entry in maps:
            if entry.quantity == quantity:
                return entry
    return None


def on_slice(finding: Finding, index: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask of a finding on one image, ``[row, column]``."""
    mask = np.zeros(shape, np.bool_)
    mask[finding.mask.box[1:]] = finding.mask.plane(index)
    return mask


def _draw_axes(picture: Image.Image, finding: Finding, part: tuple[slice, slice]) -> None:
    """Long and short axis over a picture of ``part`` of the slice."""
    draw = ImageDraw.Draw(picture)
    origin = np.array([part[1].start, part[0].start])
    scale = np.array(picture.size) / [part[1].stop - part[1].start, part[0].stop - part[0].start]
    for axis, colour in zip((finding.section.long_axis, finding.section.short_axis), _AXES, strict=True):
        draw.line([tuple(point) for point in ((axis - origin) * scale).tolist()], fill=colour, width=1)


def _draw_box(picture: Image.Image, mask: NDArray[np.bool_], colour: Colour) -> None:
    """A frame round a small finding, with room to see what surrounds it."""
    ImageDraw.Draw(picture).rectangle(_frame(picture, mask, 12), outline=colour)


def _draw_number(picture: Image.Image, mask: NDArray[np.bool_], finding: Finding) -> None:
    """The number of another finding at the upper right of its outline: it has a key image of its own."""
    _, top, right, _ = _frame(picture, mask, 3)
    draw = ImageDraw.Draw(picture)
    draw.text((right, top), str(finding.number), fill=finding.colour, font=typeface(_TEXT), anchor="lb")


def _frame(picture: Image.Image, mask: NDArray[np.bool_], margin: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of ``mask`` in a picture of the whole slice."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    across, down = picture.width / mask.shape[1], picture.height / mask.shape[0]
    left, top = columns[0] * across - margin, rows[0] * down - margin
    return float(left), float(top), float((columns[-1] + 1) * across + margin), float((rows[-1] + 1) * down + margin)


def _lines(
    analysis: Analysis, finding: Finding, findings: Sequence[Finding], window: tuple[float, float]
) -> list[tuple[str, Colour]]:
    of = sum(f.lesion == finding.lesion for f in findings)
    lines: list[tuple[str, Colour]] = [
        (caption(finding.label_in_words), finding.colour),
        (gettext("{number} of {all}", number=finding.number, all=of), FAINT),
        *((caption(line), INK) for line in (*finding.described(), *finding.measured())),
        ("", INK),
        (gettext(", ").join((f"{finding.image}", window_text(window))), FAINT),
        *closing_lines(analysis),
    ]
    return lines


def closing_lines(analysis: Analysis) -> list[tuple[str, Colour]]:
    """Return the last lines of every key image: algorithm, what was not analysed, what this replaces, the notice."""
    lines: list[tuple[str, Colour]] = [(plain(f"{analysis.algorithm.name} {analysis.algorithm.version}"), FAINT)]
    if analysis.outcome == Outcome.PARTIAL:
        lines.append((caption(gettext("Analysed in part: {reason}", reason=analysis.reason)), WARNING))
    if supersession_of(analysis):
        lines.append((supersession_of(analysis), INK))
    return [*lines, (gettext(NOTICE), WARNING)]


def window_text(window: tuple[float, float]) -> str:
    """Return the window of a picture, which is level and width; with decimals where it is narrow, as of an SUV."""
    level, width = (f"{value:.0f}" if window[1] >= 10 else decimal(f"{value:.3g}") for value in window)
    return gettext("window {width} / level {level}", width=width, level=level)


def compose(
    slice_picture: Image.Image, insets: Sequence[Image.Image], text: Sequence[tuple[str, Colour]]
) -> Image.Image:
    """Return one picture of an image, magnified details and lines of text, which are wrapped."""
    lines = [(part, colour) for line, colour in text for part in caption_lines(line)]
    top = sum(inset.height for inset in insets)
    height = max(slice_picture.height, top + 20 + round(1.4 * _TEXT) * len(lines))
    page = Image.new("RGB", (EDGE + COLUMN, height + height % 2), BACKGROUND)
    page.paste(slice_picture, ((EDGE - slice_picture.width) // 2, 0))
    for number, inset in enumerate(insets):
        page.paste(inset, (EDGE, sum(above.height for above in insets[:number])))
    draw_lines(page, (EDGE + 10, top + 10), lines, _TEXT)
    return page

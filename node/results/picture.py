"""Pictures of a pipeline as Secondary Captures (PS3.3 A.8.1): unchanged, with who made them beside them.

They go with the key images. The node cannot judge what a picture shows; it states that it was synthesized, from which
images, and that letters are burned in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from PIL import Image
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes

from node.pipeline import Picture
from node.results.analysis import Analysis, Source
from node.results.equipment import MANUFACTURER
from node.results.headers import describe_body_part, references
from node.results.identity import noted, plain
from node.results.key_image import COLUMN, closing_lines
from node.results.naming import series_description, series_number
from node.results.picture_text import caption, caption_lines
from node.results.rendering import BACKGROUND, INK, draw_lines
from node.results.uids import derive_uid

SYNTHETIC = "SYN"
"""Conversion Type (0008,0064) of a picture; that of a key image is another."""
_TEXT = 15


def draw_picture(analysis: Analysis, picture: Picture) -> Image.Image:
    """Return the picture, and beside it its label, the algorithm and the notice."""
    text = [(caption(picture.label), INK), *closing_lines(analysis)]
    lines = [(part, colour) for line, colour in text for part in caption_lines(line)]
    height, width = picture.pixels.shape[:2]
    needed = max(height, 20 + round(1.4 * _TEXT) * len(lines))
    page = Image.new("RGB", (width + COLUMN + width % 2, needed + needed % 2), BACKGROUND)
    page.paste(Image.fromarray(picture.pixels), (0, 0))
    draw_lines(page, (width + 10, 10), lines, _TEXT)
    return page


def encode_pictures(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    pictures: Sequence[tuple[Picture, Image.Image]],
    *,
    key: str,
    after: int,
) -> Iterator[SCImage]:
    """Yield a Secondary Capture for each of ``pictures``, with its drawing; ``after``: the number of key images."""
    first = source.datasets[0]
    for number, (picture, drawing) in enumerate(pictures, after + 1):
        image = SCImage(
            pixel_array=np.asarray(drawing),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=str(first.StudyInstanceUID),
            series_instance_uid=derive_uid(key, "key images"),
            series_number=series_number(analysis, source, 90),
            sop_instance_uid=derive_uid(key, "picture", picture.label),
            instance_number=number,
            manufacturer=MANUFACTURER,
            patient_orientation=("L", "F"),  # highdicom asks for one
            series_description=series_description(analysis, source, "key images"),
        )
        image.ConversionType = SYNTHETIC
        del image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture  # highdicom's clock; Content Date says it
        image.BurnedInAnnotation = "YES"
        image["PatientOrientation"] = DataElement("PatientOrientation", "CS", None)
        image.ImageComments = noted(picture.label, 10240)
        image.DerivationDescription = plain(f"Picture made by {analysis.algorithm.name}", 1024)
        image.SourceImageSequence = [_source(*reference) for reference in references(headers)]
        describe_body_part(image, source)
        yield image


def _source(sop_class: str, uid: str, frames: list[int] | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    if frames:
        item.ReferencedFrameNumber = frames
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item

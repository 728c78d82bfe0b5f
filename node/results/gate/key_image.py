"""Key images: which source image they show, and how the patient lies in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.gate.references import original_of
from node.results.picture import SYNTHETIC
from node.results.rendering import patient_orientation


def key_image_faults(image: Dataset, source: Source) -> Iterator[str]:
    """A key image is a colour picture that says of which image and how the patient lies in it.

    A picture of the pipeline says that it is synthetic, and how the patient lies in it is not known.
    """
    original = original_of(image, source)
    if original is None:
        yield "SourceImageSequence names no source image"
        return
    letters = list(image.get("PatientOrientation") or ())
    shown = () if image.get("ConversionType") == SYNTHETIC else patient_orientation(original) or ()
    if letters != list(shown):
        yield f"PatientOrientation {letters} is not that of the source image"
    if image.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES, but there is text in the picture"
    if (image.PhotometricInterpretation, image.SamplesPerPixel, image.BitsAllocated) != ("RGB", 3, 8):
        yield "it is not an 8 bit RGB picture"
    size = int(image.Rows) * int(image.Columns) * 3
    if len(image.PixelData) != size + size % 2:
        yield f"PixelData has {len(image.PixelData)} bytes, {size + size % 2} are needed"
    elif not np.ptp(np.frombuffer(image.PixelData, np.uint8)):
        yield "the picture is blank"

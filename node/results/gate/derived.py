"""Derived images: pixels and geometry must be those of the source image that each was made from."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from node.results.analysis import Source
from node.results.gate.references import original_of
from node.results.headers import rescale, single_image_class

_SAME = ("Rows", "Columns", "SamplesPerPixel", "FrameOfReferenceUID", "PhotometricInterpretation", "WindowCenter",
         "WindowWidth", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # fmt: skip

_TYPE = ("BitsAllocated", "BitsStored", "PixelRepresentation")


def derived_faults(image: Dataset, source: Source) -> Iterator[str]:
    """A derived image has the geometry and rescale of the image it refers to, in its type or 16 bits."""
    original = original_of(image, source)
    if original is None:
        yield "SourceImageSequence names no source image"
        return
    if image.SOPClassUID != single_image_class(original):
        yield f"SOPClassUID is {image.SOPClassUID}, not {single_image_class(original)}"
    if list(image.ImageType)[:2] != ["DERIVED", "SECONDARY"]:
        yield f"ImageType begins {list(image.ImageType)[:2]}, not DERIVED, SECONDARY"
    if not image.get("DerivationCodeSequence"):
        yield "DerivationCodeSequence is missing"
    if rescale(image) != rescale(original):
        yield "rescale slope and intercept are not the source's"
    for keyword in _SAME if "ReferencedFrameNumber" in original else (*_SAME, "InstanceNumber"):
        if image.get(keyword) != original.get(keyword):
            yield f"{keyword} is not the source's"
    if original.get("LossyImageCompression") == "01" and image.get("LossyImageCompression") != "01":
        yield "LossyImageCompression of the source is lost"
    yield from _pixel_faults(image, original)


def _pixel_faults(image: Dataset, original: Dataset) -> Iterator[str]:
    if any(image.get(keyword) != original.get(keyword) for keyword in _TYPE) and image.BitsStored != 16:
        yield "pixels are stored neither in the source's type nor in 16 bits"
    size = int(image.Rows) * int(image.Columns) * int(image.BitsAllocated) // 8
    compressed = image.file_meta.TransferSyntaxUID.is_compressed
    held = image.pixel_array.nbytes + size % 2 if compressed else len(image.PixelData)
    if held != size + size % 2:
        yield f"PixelData has {held} bytes, {size + size % 2} are needed"

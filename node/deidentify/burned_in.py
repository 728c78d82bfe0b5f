"""Which objects may have identifying text in their pixels, or content that nobody can clean: these are not sent."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import UID

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MODALITIES = {"US", "IVUS", "OT", "SC", "ES", "XC", "GM", "SM", "DG", "OP", "DOC", "SR", "PR", "KO", "HC", "TG", "LP"}
"""Of images with text or photographs, and of everything else (PS3.3 C.7.3.1.1.1)."""
_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture, of one or more frames
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame
    "1.2.840.10008.5.1.4.1.1.77",  # visible light
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
)
_FACES = ("1.2.840.10008.5.1.4.1.1.77",)
"""Photographs: blanked text leaves the face."""
_CAPTURED = {"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN", "CAPTURE", "PASTED", "DOSE_INFO", "REPORT", "OVERLAY"}
"""In Image Type (0008,0008), value 3 and later."""
_CLEAN = {
    "CT": ("1.2.840.10008.5.1.4.1.1.2",),
    "MR": ("1.2.840.10008.5.1.4.1.1.4",),
    "PT": ("1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.130"),
    "NM": ("1.2.840.10008.5.1.4.1.1.20",),
}
"""Modalities whose original images have no text unless they say so, with their SOP Classes."""


def objection(dataset: Dataset, *, is_result: bool, clean_pixel_data: bool, is_masked: bool = False) -> str | None:
    """Return why an object must not be sent; ``None``: nothing speaks against it.

    ``is_result``: made by this node, which writes no text into pixels of the kinds that a destination may get.
    ``clean_pixel_data``: the destination is promised that no pixels have text. ``is_masked``: where this device writes
    text, its images are blanked.
    """
    stated = str(dataset.get("BurnedInAnnotation", "")).strip().upper()
    if stated not in ("", "NO") and not is_masked:
        return f"BurnedInAnnotation is {stated[:16]}"
    if is_result:
        return None
    name = UID(str(dataset.get("SOPClassUID", ""))).name
    if len(present := [keyword for keyword in PIXELS if keyword in dataset]) > 1:
        return f"it has {' and '.join(present)}, of which an image has one"
    if "PixelData" not in dataset:
        return f"{name} is no image, and its content cannot be cleaned"
    if _has_overlay_in_pixels(dataset):
        return "an overlay is stored in the bits of the pixel data"
    if is_masked:
        return f"{name} may show a face" if _is_of(dataset, _FACES) else None
    if _is_of(dataset, _CLASSES):
        return f"{name} may show text or a face"
    return _may_show_text(dataset, must_say_no=clean_pixel_data and not stated)


def may_have_text(dataset: Dataset) -> bool:
    """Whether it is an image of a kind, by SOP Class and Modality, whose images have text without saying so."""
    modality = str(dataset.get("Modality", "")).strip().upper()
    is_clean = modality in _CLEAN and _is_of(dataset, _CLEAN[modality])
    return "PixelData" in dataset and not is_clean


def _is_of(dataset: Dataset, classes: Sequence[str]) -> bool:
    sop_class = str(dataset.get("SOPClassUID", ""))
    return any(sop_class == root or sop_class.startswith(f"{root}.") for root in classes)


def _may_show_text(dataset: Dataset, *, must_say_no: bool) -> str | None:
    """``must_say_no``: an image that does not say NO to burned-in text is only clean where its modality has none."""
    modality = str(dataset.get("Modality", "")).strip().upper()
    if not modality or modality in _MODALITIES:
        return f"images of modality {modality[:16] or 'unknown'} may show text or a face"
    if conversion := str(dataset.get("ConversionType", "")).strip():
        return f"ConversionType is {conversion[:16]}: the image was captured from a screen or film"
    if why := _looks_captured(dataset):
        return why
    if must_say_no and modality not in _CLEAN:
        return f"BurnedInAnnotation does not say NO, as images of modality {modality} must with clean pixel data"
    return None


def _looks_captured(dataset: Dataset) -> str | None:
    if shown := sorted(_CAPTURED & {part.strip().upper() for part in _image_type(dataset)}):
        return f"ImageType has {shown[0]}: the image looks like a screen capture"
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        return "an image in colour looks like a screen capture"
    return None


def _image_type(dataset: Dataset) -> Sequence[str]:
    value = dataset.get("ImageType") or ()
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _has_overlay_in_pixels(dataset: Dataset) -> bool:
    for group in range(0x6000, 0x6100, 2):
        position = dataset.get((group, 0x0102))  # Overlay Bit Position (PS3.3 C.9.2, retired use)
        if position is not None and position.value and (group, 0x3000) not in dataset:
            return True
    return False

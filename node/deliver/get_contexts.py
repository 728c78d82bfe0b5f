"""The presentation contexts of a C-GET: which Storage SOP Classes and transfer syntaxes an archive may send. Pure.

An association has room for 128 contexts, of which query and retrieval take two. The classes of the series are known
from a query, so that each gets a context for every transfer syntax: an archive that cannot convert finds the one in
which it has the images. For archives that do not return the class, the most common classes share the room.
"""

from __future__ import annotations

from collections.abc import Collection

from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
)
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

MOST_STORAGE_CONTEXTS = 126
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_COMMON_SYNTAXES = (
    *_PLAIN,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    JPEGBaseline8Bit,
)
_COMMON_CLASSES = (
    CTImageStorage,
    MRImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
    SecondaryCaptureImageStorage,
)


def get_contexts(classes: Collection[str], syntaxes: Collection[str]) -> list[PresentationContext]:
    """Return the storage contexts to propose for a series, at most 126, each with one transfer syntax.

    ``classes``: SOP Classes of the series; empty: not known. ``syntaxes``: those that the receiver takes. Uncompressed
    ones come first, then the common compressed ones; every class has the first of them when there is no room for all.
    """
    storage = sorted(classes)[:MOST_STORAGE_CONTEXTS] or list(_COMMON_CLASSES)
    known = [*_COMMON_SYNTAXES, *sorted({*syntaxes} - {*_COMMON_SYNTAXES}, key=_is_rare)]
    each = MOST_STORAGE_CONTEXTS // len(storage)
    return [build_context(UID(of), syntax) for of in storage for syntax in known[:each]]


def _is_rare(syntax: str) -> tuple[bool, str]:
    return syntax == DeflatedExplicitVRLittleEndian or UID(syntax).is_retired, syntax

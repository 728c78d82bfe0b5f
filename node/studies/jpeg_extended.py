"""JPEG Extended with 12 bits (PS3.5 A.4.1, Process 4), decoded by GDCM.

pydicom's plug-in for GDCM leaves these frames out, although GDCM decodes them once it is given their pixel format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGExtended12Bit

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

_LABEL = "gdcm with 12 bits"
DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm",)}
"""pydicom asks a plug-in for it, and for ``is_available``."""


def is_available(uid: str) -> bool:
    """Whether frames of this transfer syntax can be decoded."""
    return uid == JPEGExtended12Bit


def add_decoder() -> None:
    """Add ``decode_frame`` to pydicom's decoders of JPEG Extended, once."""
    decoder = get_decoder(JPEGExtended12Bit)
    if _LABEL not in decoder.available_plugins:
        decoder.add_plugin(_LABEL, (__name__, "decode_frame"))


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Return the samples of one frame, as they are stored: little endian, in Bits Allocated."""
    import gdcm  # not where the decoders are left out

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(src)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    image.SetPixelFormat(
        gdcm.PixelFormat(
            runner.samples_per_pixel,
            runner.bits_allocated,
            runner.bits_stored,
            runner.bits_stored - 1,
            runner.pixel_representation,
        )
    )
    samples: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM returns char* as str
    return samples

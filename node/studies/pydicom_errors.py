"""Exceptions that pydicom and its decoders raise on damaged or hostile files; pydicom documents no common base."""

from __future__ import annotations

import struct
import zlib

from pydicom.errors import BytesLengthException, InvalidDicomError

UNREADABLE = (
    ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError, NotImplementedError, OSError,
    RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""From a value that its VR does not allow, from a sequence that is parsed when it is first used, and from arithmetic on
such a value."""
NOT_DICOM = (*UNREADABLE, InvalidDicomError, zlib.error)
"""From ``dcmread`` of a file that is damaged, cut off or no DICOM."""
UNDECODABLE = (*UNREADABLE, RuntimeError)
"""From the decoding of pixel data."""

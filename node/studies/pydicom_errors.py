"""Exceptions that pydicom and its decoders raise on damaged or hostile files; pydicom documents no common base."""

from __future__ import annotations

from pydicom.errors import InvalidDicomError

UNREADABLE = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
"""From a value that its VR does not allow, and from arithmetic on such a value."""
NOT_DICOM = (InvalidDicomError, OSError, EOFError, LookupError, NotImplementedError, RecursionError, ValueError)
"""From ``dcmread`` of a file that is damaged, cut off or no DICOM."""
UNDECODABLE = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""From the decoding of pixel data."""

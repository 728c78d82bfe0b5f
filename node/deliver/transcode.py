"""Conversion of an object to an uncompressed transfer syntax, for peers that do not accept its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.errors import EncodeError
from node.ledger.deliveries import Sent
from node.spool import Spool

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes for the conversion, in order of preference; it is lossless."""


@contextmanager
def transcoded(spool: Spool, path: str, syntax: str) -> Iterator[tuple[Path, Sent]]:
    """Convert the object at ``path``, relative to the spool, to ``syntax``; yield a temporary file and its digest.

    Only the pixels are decoded; SOP Instance UID and all other attributes stay. Raises ``EncodeError`` when the pixels
    cannot be decoded, ``OSError`` when the disk cannot be written.
    """
    draft = spool.draft()
    try:
        draft.write([_converted(spool.absolute(path), UID(syntax))])
        yield draft.path, Sent(transfer_syntax_uid=syntax, digest=draft.digest)
    finally:
        draft.discard()


def _converted(path: Path, syntax: UID) -> memoryview:
    dataset = dcmread(path)
    buffer = BytesIO()
    try:
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            dataset.decompress(generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(buffer, enforce_file_format=True)
    except (RuntimeError, ValueError, AttributeError) as error:  # what pydicom and its decoders raise
        raise EncodeError(f"conversion to {syntax.name} failed ({error})") from error
    return buffer.getbuffer()

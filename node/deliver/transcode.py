"""The same object in an uncompressed transfer syntax, for a peer that does not take the one it is kept in."""

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
"""Transfer syntaxes that an object is converted to, in this order: pixels lose nothing by it."""


@contextmanager
def transcoded(spool: Spool, path: str, syntax: str) -> Iterator[tuple[Path, Sent]]:
    """A temporary Part 10 file with the object of ``path``, relative to the spool, in ``syntax``; and its digest.

    Pixels are decoded and nothing else is changed: same SOP Instance UID, same patient, same attributes.
    Raises ``EncodeError`` when they cannot be decoded, ``OSError`` when the disk refuses.
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
        raise EncodeError(f"cannot be converted to {syntax.name} ({error})") from error
    return buffer.getbuffer()

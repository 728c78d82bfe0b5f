"""Conversion of an object to an uncompressed transfer syntax, for peers that do not accept its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.confined import Bounds, shared_process
from node.errors import EncodeError, InputError
from node.ledger.deliveries import Sent
from node.spool import Spool
from node.studies.pixel_size import check_pixel_size
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes for the conversion, in order of preference; it is lossless."""
_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=300, wall_seconds=900.0)
"""An Enhanced image of 1,000 frames takes 1.5 GiB and 20 s."""


@contextmanager
def transcoded(spool: Spool, path: str, syntax: str) -> Iterator[tuple[Path, Sent]]:
    """Convert the object at ``path``, relative to the spool, to ``syntax``; yield a temporary file and its digest.

    Only the pixels are decoded; SOP Instance UID and all other attributes stay. Raises ``EncodeError`` when the pixels
    cannot be decoded, ``OSError`` when the disk cannot be written.
    """
    draft, converted = spool.drafts.new(), spool.drafts.new()
    try:
        process = shared_process("transcoder", spool.data_folders, _BOUNDS, writable=(converted.path.parent,))
        try:
            process.call(path, convert, spool.readable(path), UID(syntax), converted.path)
            draft.copy(converted.path)
        except InputError as error:
            raise EncodeError(str(error)) from error
        yield draft.path, Sent(transfer_syntax_uid=syntax, digest=draft.digest)
    finally:
        draft.discard()
        converted.discard()


def convert(path: Path, syntax: UID, to: Path) -> None:
    """Convert the object at ``path`` in a confined process. Raises ``EncodeError`` when that is not possible."""
    try:
        dataset = dcmread(path)
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            check_pixel_size(dataset)
            dataset.decompress(generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(to, enforce_file_format=True)
    except (InputError, *NOT_DICOM, *UNDECODABLE) as error:
        raise EncodeError(f"conversion to {syntax.name} failed ({error})") from error

"""An object that another system has given over, as a file until the receiver of this node has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from node.errors import InputError
from node.receive.dataset_identity import DatasetIdentity, read_identity
from node.receive.dataset_limits import DatasetLimits
from node.spool import LARGEST_OBJECT, Draft, dataset_offset
from node.studies.bounded_file import BoundedFile
from node.upload.part10_meta import LARGEST_META, part10_meta

_PIECES = 1000
"""Of one write (IOV_MAX is 1024)."""


class ReceivedPart:
    """A draft with the bytes of a part, as the file of an upload."""

    def __init__(self, draft: Draft, number: int) -> None:
        """``number``: of the part in its request, from 1."""
        self._draft = draft
        self._path = draft.path
        self.name = f"part {number}"

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._draft.size

    def append(self, pieces: Sequence[bytes]) -> None:
        """Write more bytes. Raises ``OSError`` when the disk refuses."""
        for start in range(0, len(pieces), _PIECES):
            self._draft.write(pieces[start : start + _PIECES])

    def close(self) -> None:
        """Nothing more is written."""
        self._draft.close()

    def discard(self) -> None:
        """Delete the file; may be called twice."""
        self._draft.discard()

    def beginning(self, count: int) -> bytes:
        """Return its first bytes, up to ``count``."""
        with self._path.open("rb") as file:
            return file.read(count)

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Have the whole file for the time of the block. Raises ``InputError`` when it is too large for an object."""
        if self.size > LARGEST_OBJECT:
            raise InputError(f"it has more than {LARGEST_OBJECT} bytes")
        yield self._path

    def identity(self, limits: DatasetLimits) -> DatasetIdentity | None:
        """Read the UIDs of its data set; ``None``: it is no complete instance within ``limits``."""
        try:
            meta = part10_meta(self.beginning(LARGEST_META))
            if meta is None:
                return None
            with BoundedFile(self._path) as file:
                file.seek(dataset_offset(self._path))
                return read_identity(file, meta.transfer_syntax_uid, limits)
        except InputError:
            return None

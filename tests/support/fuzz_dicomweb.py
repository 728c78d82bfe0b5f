"""The readers of DICOMweb as fuzzing targets: what a client sends, and what is read of the objects that it gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl

from fuzz_images import DECODED_HERE
from pydicom import dcmread

from node.dicomweb.readings import attributes_as_json, document_of, frames_of
from node.dicomweb.related_parts import RelatedParts
from node.dicomweb.search import READ, STUDY_KEYS
from node.dicomweb.search_keys import SearchKeys
from node.errors import InputError, NodeError
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import NOT_DICOM

_PIECE = 7
"""Bytes: boundaries and headers come in parts."""


@contextmanager
def objects(folder: Path) -> Iterator[Callable[[bytes], None]]:
    """Attributes as JSON, frames and document of one file."""
    path = folder / "object.dcm"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for keywords in ((), READ):
            (text,) = attributes_as_json([path], keywords)
            json.loads(text)
        with suppress(NodeError):
            frames_of(path, [1], decoded=False)
        with suppress(NodeError):
            document_of(path)
        with suppress(*NOT_DICOM), BoundedFile(path) as file:
            dataset = dcmread(file)
            if str(dataset.file_meta.get("TransferSyntaxUID")) in DECODED_HERE:
                with suppress(NodeError):
                    frames_of(path, [1], decoded=True)

    yield read


@contextmanager
def requests(_folder: Path) -> Iterator[Callable[[bytes], None]]:
    """A line with Content-Type, one with a query, then the body of a request of STOW-RS."""
    attributes = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]},
        "00080020": {"vr": "DA", "Value": ["20260101"]},
    }

    def read(data: bytes) -> None:
        kind, _, rest = data.partition(b"\n")
        query, _, body = rest.partition(b"\n")
        with suppress(InputError):
            SearchKeys.of(parse_qsl(query.decode("latin-1")), STUDY_KEYS).matches(attributes)
        with suppress(InputError):
            parts = RelatedParts(kind.decode("latin-1"))
            for start in range(0, len(body), _PIECE):
                list(parts.feed(body[start : start + _PIECE]))
            parts.check_complete()

    yield read

"""Reads UIDs and modality of an encoded data set without decoding the rest."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from math import isfinite
from typing import BinaryIO, NamedTuple

from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.errors import InputError
from node.receive.dataset_limits import DatasetLimits
from node.receive.dataset_stream import DeflatedStream, PlainStream
from node.receive.dataset_structure import structure_of
from node.receive.element_walk import WINDOW, scan
from node.studies.bounded_file import BoundedFile
from node.studies.pydicom_errors import UNREADABLE

_SHORTEST_ELEMENT = 8
"""Bytes: a data set shorter than 8 bytes for each element that is allowed cannot have too many."""
_LARGEST_UNUSUAL = 1 << 20
"""Bytes of a data set that pydicom may read because it is not well formed: 11 microseconds for each 8 bytes."""
_NO_LIMITS = DatasetLimits()
_BLOCK = 1 << 18
_IDENTITY_TAGS = _SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES, _MODALITY = tuple(
    int(Tag(keyword))  # a Tag compares itself slowly
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
)
_POSITION = int(Tag("ImagePositionPatient"))


class DatasetIdentity(NamedTuple):
    """What the node must know before it stores an instance; "" for an absent attribute."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


class PartialIdentity(NamedTuple):
    """What is known of an instance that was not stored."""

    identity: DatasetIdentity
    position: tuple[float, float, float] | None
    """Image Position (Patient) in mm, LPS; ``None``: not known."""


def identity_of_file(
    descriptor: int, start: int, end: int, transfer_syntax_uid: str, limits: DatasetLimits, *, beginning: bytes = b""
) -> DatasetIdentity:
    """Read the identity of the data set between two offsets of an open file, which ends there.

    ``beginning``: first bytes of the data set, if known already. Raises as ``read_identity``.
    """
    is_small = end - start <= min(_SHORTEST_ELEMENT * limits.elements, limits.header_bytes)
    if is_small and transfer_syntax_uid not in {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}:
        implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        values = scan(descriptor, start, end, implicit=implicit, wanted=_IDENTITY_TAGS, beginning=beginning)
        if values is not None:
            return _identity(values)
    with BoundedFile(os.dup(descriptor), _BLOCK) as stream:
        stream.seek(start)
        return read_identity(stream, transfer_syntax_uid, limits)


def read_identity(stream: BinaryIO, transfer_syntax_uid: str, limits: DatasetLimits = _NO_LIMITS) -> DatasetIdentity:
    """Read the identity from an encoded data set (no preamble, no File Meta Information).

    ``stream`` is read from its position to its end. Every element header is read and values are skipped, which
    detects a data set that ends within an element and never decodes pixels. Raises ``InputError`` when the bytes are
    not a complete data set in this transfer syntax, or exceed a limit.
    """
    start = stream.tell()
    deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    structure = structure_of(
        DeflatedStream(stream, limits.inflated_bytes) if deflated else PlainStream(stream),
        implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
        big_endian=transfer_syntax_uid == ExplicitVRBigEndian,
        wanted=_IDENTITY_TAGS,
        limits=limits,
    )
    if structure.well_formed:
        return _identity(structure.values)
    if deflated or stream.seek(0, io.SEEK_END) - start > _LARGEST_UNUSUAL:
        raise InputError("data set unreadable: it is not well formed; correct it at the sender")
    stream.seek(start)
    return _read_unusual(stream, transfer_syntax_uid)


def _read_unusual(stream: BinaryIO, transfer_syntax_uid: str) -> DatasetIdentity:
    """Let pydicom decide on a data set that is not well formed."""
    values = dict.fromkeys(_IDENTITY_TAGS, "")
    try:
        for element in data_element_generator(
            stream,
            is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
            specific_tags=list(_IDENTITY_TAGS),
        ):
            if element.tag in values and isinstance(element.value, bytes):
                values[element.tag] = element.value.decode("ascii", "replace").strip(" \0")
        read_to = stream.tell()
        complete = read_to <= stream.seek(0, io.SEEK_END)
    except UNREADABLE as error:
        raise InputError(f"data set unreadable: {type(error).__name__}: {error}; correct it at the sender") from error
    if not complete:
        raise InputError("data set ends within an element; send it again")
    return _identity(values)


def identity_of_beginning(beginning: bytes, transfer_syntax_uid: str) -> PartialIdentity:
    """Read what the first bytes of a data set contain of its identity; "" for what they lack or cut off."""
    deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    values = dict.fromkeys((*_IDENTITY_TAGS, _POSITION), "")
    with suppress(*UNREADABLE, zlib.error):
        stream = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(beginning, WINDOW) if deflated else beginning)
        for element in data_element_generator(
            stream,
            is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
            stop_when=_after_position,
            specific_tags=list(values),
        ):
            value = element.value
            if element.tag in values and isinstance(value, bytes) and len(value) == getattr(element, "length", -1):
                values[element.tag] = value.decode("ascii", "replace").strip(" \0")
    return PartialIdentity(_identity(values), _position(values[_POSITION]))


def _position(text: str) -> tuple[float, float, float] | None:
    try:
        x, y, z = (float(number) for number in text.split("\\"))
    except ValueError:
        return None
    return (x, y, z) if all(map(isfinite, (x, y, z))) else None


def _after_position(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag > _POSITION


def _identity(values: Mapping[int, str]) -> DatasetIdentity:
    modality = values[_MODALITY]
    return DatasetIdentity(
        sop_class_uid=values[_SOP_CLASS],
        sop_instance_uid=values[_SOP_INSTANCE],
        study_instance_uid=values[_STUDY],
        series_instance_uid=values[_SERIES],
        # CS: at most 16 characters; a longer or unprintable value is not a modality and must not reach the ledger.
        modality=modality if len(modality) <= 16 and modality.isprintable() else "",
    )

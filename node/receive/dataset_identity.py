"""The identity of an encoded data set, read without decoding what is not needed."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from math import isfinite
from typing import BinaryIO, NamedTuple

from pydicom.errors import BytesLengthException
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.errors import InputError
from node.receive.element_walk import WINDOW, scan

INFLATED_LIMIT = 1 << 30
"""A deflated data set (PS3.5 A.5) that grows beyond 1 GiB is refused: it would fill a worker's memory."""
HEAD_LIMIT = 1 << 20
"""The UIDs stand in the first groups; they are looked for in this many bytes of a deflated data set."""

_BLOCK = 1 << 18
_WANTED = _SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES, _MODALITY = tuple(
    int(Tag(keyword))  # a Tag compares itself slowly
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
)
_POSITION = int(Tag("ImagePositionPatient"))
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and pynetdicom raise on bytes that mean nothing; anything else is our own fault and must be seen."""


class DatasetIdentity(NamedTuple):
    """What the node must know before it keeps an instance; "" where the data set does not say."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


class Beginning(NamedTuple):
    """What is known of an instance that was not kept."""

    head: DatasetIdentity
    position: tuple[float, float, float] | None
    """Image Position (Patient), LPS mm; ``None``: not known."""


def identity_of_file(
    descriptor: int, start: int, end: int, transfer_syntax_uid: str, *, beginning: bytes = b""
) -> DatasetIdentity:
    """``read_identity`` of the data set between two offsets of an open file, which ends there.

    ``beginning``: what of the data set need not be read.
    """
    if transfer_syntax_uid not in {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}:
        implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        values = scan(descriptor, start, end, implicit=implicit, wanted=_WANTED, beginning=beginning)
        if values is not None:
            return _head(values)
    with os.fdopen(os.dup(descriptor), "rb", buffering=_BLOCK) as stream:
        stream.seek(start)
        return read_identity(stream, transfer_syntax_uid)


def read_identity(stream: BinaryIO, transfer_syntax_uid: str) -> DatasetIdentity:
    """Read the identity from an encoded data set (no preamble, no File Meta Information).

    ``stream`` is read from its position to its end. Every element header is visited, values are skipped: a data set
    that ends in the middle of an element is found out, its pixels are never decoded. Raises ``InputError`` when the
    bytes are no complete data set in this transfer syntax.
    """
    deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    if deflated:
        stream = BytesIO(inflate(stream, HEAD_LIMIT, INFLATED_LIMIT))
    values = dict.fromkeys(_WANTED, "")
    try:
        for element in data_element_generator(
            stream,
            is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
            stop_when=_behind_the_head if deflated else None,
            specific_tags=list(_WANTED),
        ):
            if element.tag in values and isinstance(element.value, bytes):
                values[element.tag] = element.value.decode("ascii", "replace").strip(" \0")
        read_to = stream.tell()
        complete = read_to <= stream.seek(0, io.SEEK_END)
    except UNREADABLE as error:
        raise InputError(f"data set unreadable: {type(error).__name__}: {error}; the sender must correct it") from error
    if not complete:
        raise InputError("data set ends in the middle of an element; the sender must send it again")
    return _head(values)


def identity_of_beginning(beginning: bytes, transfer_syntax_uid: str) -> Beginning:
    """What the first bytes of a data set say of its identity; "" for what does not stand in them, or not to its end."""
    deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    values = dict.fromkeys((*_WANTED, _POSITION), "")
    with suppress(*UNREADABLE):
        stream = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(beginning, WINDOW) if deflated else beginning)
        for element in data_element_generator(
            stream,
            is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
            stop_when=_behind_the_position,
            specific_tags=list(values),
        ):
            value = element.value
            if element.tag in values and isinstance(value, bytes) and len(value) == getattr(element, "length", -1):
                values[element.tag] = value.decode("ascii", "replace").strip(" \0")
    return Beginning(_head(values), _position(values[_POSITION]))


def _position(text: str) -> tuple[float, float, float] | None:
    try:
        x, y, z = (float(number) for number in text.split("\\"))
    except ValueError:
        return None
    return (x, y, z) if all(map(isfinite, (x, y, z))) else None


def _behind_the_position(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag > _POSITION


def _head(values: Mapping[int, str]) -> DatasetIdentity:
    modality = values[_MODALITY]
    return DatasetIdentity(
        sop_class_uid=values[_SOP_CLASS],
        sop_instance_uid=values[_SOP_INSTANCE],
        study_instance_uid=values[_STUDY],
        series_instance_uid=values[_SERIES],
        # CS: at most 16 characters; what is longer or not printable is no modality and must not reach the ledger.
        modality=modality if len(modality) <= 16 and modality.isprintable() else "",
    )


def _behind_the_head(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag > _SERIES


def inflate(stream: BinaryIO, keep: int, limit: int) -> bytes:
    """The first ``keep`` bytes of a deflated data set (PS3.5 A.5), after its whole stream proved to be sound.

    Raises ``InputError`` when it is damaged or larger than ``limit``.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head, size = bytearray(), 0
    data = stream.read(_BLOCK)
    try:
        while data and not inflater.eof:
            inflated = inflater.decompress(data, _BLOCK)
            size += len(inflated)
            if size > limit:
                raise InputError(f"deflated data set is larger than {limit} bytes; send it uncompressed")
            if len(head) < keep:
                head += inflated
            data = inflater.unconsumed_tail or stream.read(_BLOCK)
    except zlib.error as error:
        raise InputError(f"deflated data set is damaged ({error}); the sender must correct it") from error
    if not inflater.eof:
        raise InputError("deflated data set ends too early; the sender must correct it")
    return bytes(head)

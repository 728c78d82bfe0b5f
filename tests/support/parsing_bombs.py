"""DICOM files that are small, or ordinary, and take much memory or time to parse; as an old spool could hold them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from jpeg_ls import encode_array as jpeg_ls_encode
from PIL import Image
from pydicom import FileDataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

GIB = 1 << 30
_BLOCK = 1 << 22
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_END, _SEQUENCE_END = b"\xfe\xff\x0d\xe0" + b"\0" * 4, b"\xfe\xff\xdd\xe0" + b"\0" * 4


def encoded(dataset: FileDataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def peak_mib() -> int:
    """Peak of the memory of this process since ``reset_peak``."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _head(dataset: FileDataset, syntax: str, before: int) -> tuple[bytes, bytes]:
    """File Meta Information that states ``syntax``, and the elements of ``dataset`` up to ``before``, Explicit VR."""
    for tag in [element.tag for element in dataset if element.tag >= before]:
        del dataset[tag]
    dataset.file_meta.TransferSyntaxUID = syntax
    meta = BytesIO()
    dcmwrite(meta, FileDataset("", {}, file_meta=dataset.file_meta, preamble=b"\0" * 128), enforce_file_format=True)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = encoded(dataset)
    return meta.getvalue()[: _end(meta.getvalue())], whole[_end(whole) :]


def _end(data: bytes) -> int:
    """Where the File Meta Information ends."""
    return 144 + int(struct.unpack("<L", data[140:144])[0])


def deflated_bomb(dataset: FileDataset) -> bytes:
    """1 MiB that inflates to 1 GiB: a private element of zeros."""
    meta, head = _head(dataset, DeflatedExplicitVRLittleEndian, 0x00310000)
    creator = struct.pack("<HH2sH", 0x0031, 0x0010, b"LO", 4) + b"BOMB"
    value = struct.pack("<HH2sHL", 0x0031, 0x1001, b"OB", 0, GIB)
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begin = press.compress(head + creator + value) + press.flush(zlib.Z_FULL_FLUSH)
    zeros = press.compress(b"\0" * _BLOCK) + press.flush(zlib.Z_FULL_FLUSH)
    return meta + begin + zeros * (GIB // _BLOCK) + press.flush()


def empty_items(dataset: FileDataset, items: int = 1_000_000) -> bytes:
    """A sequence of a million empty items: 8 MB."""
    meta, head = _head(dataset, ExplicitVRLittleEndian, 0x00400275)
    start = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, _UNDEFINED)
    return meta + head + start + (_ITEM + b"\0" * 4) * items + _SEQUENCE_END


def nested(dataset: FileDataset, levels: int = 3000) -> bytes:
    """Request Attributes Sequence in an item of itself, 3,000 levels deep."""
    meta, head = _head(dataset, ExplicitVRLittleEndian, 0x00400275)
    begin = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, _UNDEFINED) + _ITEM + struct.pack("<L", _UNDEFINED)
    return meta + head + begin * levels + (_ITEM_END + _SEQUENCE_END) * levels


def many_values(dataset: FileDataset, values: int = 20_000_000) -> bytes:
    """An Image Type of 20 million values."""
    return _long_value(dataset, 0x00080008, b"\\" * values)


def many_numbers(dataset: FileDataset, values: int = 5_000_000) -> bytes:
    """An Image Position (Patient) of 5 million numbers."""
    return _long_value(dataset, 0x00200032, b"1\\" * values)


def _long_value(dataset: FileDataset, tag: int, value: bytes) -> bytes:
    if tag in dataset:
        dataset[tag].value = None
    data = encoded_implicit(dataset)
    empty = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, 0)
    if tag not in dataset:
        dataset.add_new(tag, "CS", None)
        data = encoded_implicit(dataset)
    at = data.index(empty)
    return data[:at] + empty[:4] + struct.pack("<L", len(value)) + value + data[at + 8 :]


def encoded_implicit(dataset: FileDataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return encoded(dataset)


def many_elements(dataset: FileDataset, elements: int = 1_000_000) -> bytes:
    """A million empty private elements: 8 MB."""
    meta, head = _head(dataset, ExplicitVRLittleEndian, 0x00310000)
    groups = range(0x0031, 0x0031 + 2 * (elements // 0xF000 + 1), 2)
    tags = ((group, element) for group in groups for element in range(0x1000, 0x10000))
    body = b"".join(struct.pack("<HH2sH", *next(tags), b"LO", 0) for _ in range(elements))
    return meta + head + body


def many_frames(dataset: FileDataset) -> bytes:
    """2^31 - 1 frames are stated, and one is there."""
    dataset.NumberOfFrames = 2**31 - 1
    return encoded(dataset)


def functional_groups(dataset: FileDataset, frames: int = 300_000) -> bytes:
    """Functional groups of 300,000 frames, each with a position: 20 MB."""
    meta, head = _head(dataset, ExplicitVRLittleEndian, 0x52009229)
    position = struct.pack("<HH2sH", 0x0020, 0x0032, b"DS", 6) + b"1\\2\\3 "
    plane = _ITEM + struct.pack("<L", len(position)) + position
    group = struct.pack("<HH2sHL", 0x0020, 0x9113, b"SQ", 0, len(plane)) + plane
    item = _ITEM + struct.pack("<L", len(group)) + group
    start = struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, _UNDEFINED)
    return meta + head + start + item * frames + _SEQUENCE_END


HEADER_BOMBS: dict[str, Callable[[FileDataset], bytes]] = {
    "deflated": deflated_bomb,
    "empty items": empty_items,
    "nested": nested,
    "values": many_values,
    "numbers": many_numbers,
    "elements": many_elements,
    "frames": many_frames,
    "functional groups": functional_groups,
}


def _compressed(dataset: FileDataset, syntax: str, frame: bytes, *, bits: int = 8) -> bytes:
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax
    return encoded(dataset)


def jpeg(side: int) -> bytes:
    """A JPEG of 16 x 16 pixels that states ``side`` x ``side``."""
    out = BytesIO()
    Image.new("L", (16, 16)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0") + 5  # start of frame: lines and samples
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def jpeg_2000(side: int) -> bytes:
    out = BytesIO()
    Image.new("L", (16, 16)).save(out, "JPEG2000", no_jp2=True)
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\x51")  # SIZ: image and tile size
    data[at + 6 : at + 14] = data[at + 22 : at + 30] = struct.pack(">LL", side, side)
    return bytes(data)


def jpeg_ls(side: int) -> bytes:
    data = bytearray(jpeg_ls_encode(np.zeros((16, 16), np.uint8)))
    at = data.index(b"\xff\xf7") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def rle(side: int) -> bytes:
    """One segment of zeros, 2 bytes for 128 pixels."""
    return struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * (side * side // 128)


def _pixels(stated: int, syntax: str, frame: bytes) -> Callable[[FileDataset], bytes]:
    def build(dataset: FileDataset) -> bytes:
        dataset.Rows = dataset.Columns = stated
        return _compressed(dataset, syntax, frame)

    return build


def huge_and_empty(dataset: FileDataset) -> bytes:
    """60,000 x 60,000 pixels are stated, and 512 bytes are there."""
    dataset.Rows = dataset.Columns = 60000
    return encoded(dataset)


PIXEL_BOMBS: dict[str, Callable[[FileDataset], bytes]] = {
    "60000 x 60000": huge_and_empty,
    "frames": many_frames,
    "JPEG": _pixels(60000, JPEGBaseline8Bit, jpeg(60000)),
    "JPEG within": _pixels(16, JPEGBaseline8Bit, jpeg(60000)),
    "JPEG 2000": _pixels(60000, JPEG2000Lossless, jpeg_2000(60000)),
    "JPEG 2000 within": _pixels(16, JPEG2000Lossless, jpeg_2000(60000)),
    "JPEG-LS": _pixels(60000, JPEGLSLossless, jpeg_ls(60000)),
    "JPEG-LS within": _pixels(16, JPEGLSLossless, jpeg_ls(60000)),
    "RLE": _pixels(60000, RLELossless, rle(16)),
}
"""``within``: the header states 16 x 16 pixels, the frame 60,000 x 60,000."""

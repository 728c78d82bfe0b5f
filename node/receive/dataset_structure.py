"""Walk over every element header of a data set, which bounds what its readers have to spend.

Counts elements, items and fragments, the nesting of sequences, and the bytes outside the pixel data. The walk stops at
the first limit that is exceeded, so its own time and memory are bounded too. ``element_walk.scan`` is faster and leaves
to this module what is large, long nested, deflated, Big Endian or unusual.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import NamedTuple

from node.errors import InputError
from node.receive.dataset_limits import DatasetLimits
from node.receive.dataset_stream import DatasetStream
from node.receive.element_walk import HEADER_SIZES, LONGEST_VALUE, MOST_NESTED, UNDEFINED, WINDOW

_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Float Pixel Data, Double Float Pixel Data, Pixel Data: what a reader of headers skips."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_TO_DELIMITER = -1
"""End of a container of undefined length."""


class Structure(NamedTuple):
    """Result of a walk."""

    values: dict[int, str]
    """Wanted elements of the top level; "" for an absent one."""
    well_formed: bool
    """Every header is valid and leads to the next one, and the last one to the end; but values of defined length may
    hold anything."""


class _Container(NamedTuple):
    """A sequence, item or encapsulated Pixel Data around the current position."""

    kind: str
    """"sequence", "item" or "frames"."""
    end: int
    bound: float
    """End of the innermost container of defined length."""
    implicit: bool


class _HeaderError(Exception):
    """A header is not valid at its position."""


def structure_of(
    stream: DatasetStream, *, implicit: bool, big_endian: bool, wanted: Collection[int], limits: DatasetLimits
) -> Structure:
    """Walk over a data set. Raises ``InputError`` that names the limit which the data set exceeds."""
    top = _Container("item", _TO_DELIMITER, stream.bound, implicit)
    return _Walk(stream, big_endian, wanted, limits, top).run()


class _Walk:
    def __init__(
        self,
        stream: DatasetStream,
        big_endian: bool,  # noqa: FBT001 - private
        wanted: Collection[int],
        limits: DatasetLimits,
        top: _Container,
    ) -> None:
        order = ">" if big_endian else "<"
        self._unpack = struct.Struct(f"{order}HH2sH").unpack_from
        self._unpack_length = struct.Struct(f"{order}L").unpack_from
        self._item_tag = struct.pack(f"{order}HH", 0xFFFE, 0xE000)
        self._big_endian = big_endian
        self._stream = stream
        self._limits = limits
        self._values = dict.fromkeys(wanted, "")
        self._around = [top]
        self._position = self._elements = self._pixel_bytes = self._depth = 0
        self._window, self._base, self._last = b"", 0, -1
        """Bytes that were read, where they begin, and the last offset in them at which any header is complete."""

    def run(self) -> Structure:
        while True:
            try:
                while self._step():
                    pass
            except _HeaderError:
                while self._around[-1].kind != "sequence" or self._around[-1].end == _TO_DELIMITER:
                    self._leave()
                    if not self._around:
                        return Structure(self._values, well_formed=False)
                self._position = self._around[-1].end
            else:
                well_formed = len(self._around) == 1 and self._position == self._stream.size
                return Structure(self._values, well_formed)

    def _step(self) -> bool:
        """Process the next header; return whether there was one."""
        inner = self._around[-1]
        while self._position == inner.end:
            self._leave()
            inner = self._around[-1]
        if self._position > inner.bound:
            raise _HeaderError
        if self._position - self._pixel_bytes > self._limits.header_bytes:
            raise InputError(f"header larger than {self._limits.header_bytes / 2**20:g} MiB (max_header_mib)")
        offset = self._position - self._base
        if offset > self._last:
            self._window, self._base, offset = self._stream.at(self._position, WINDOW), self._position, 0
            self._last = len(self._window) - 12
            if len(self._window) < 8:
                return False
        group, number, vr, length = self._unpack(self._window, offset)
        tag = group << 16 | number
        self._elements += 1
        if self._elements > self._limits.elements:
            raise InputError(f"more than {self._limits.elements} elements and items (max_elements)")
        if group == 0xFFFE:
            self._delimiter(inner, tag, self._unpack_length(self._window, offset + 4)[0])
        elif inner.kind == "item":
            self._element(inner, tag, vr, length, offset)
        else:
            raise _HeaderError
        return True

    def _delimiter(self, inner: _Container, tag: int, length: int) -> None:
        """Process an item or delimiter (PS3.5 7.5)."""
        self._position += 8
        if tag == _ITEM and inner.kind == "sequence":
            self._enter("item", length, implicit=inner.implicit)
        elif tag == _ITEM and inner.kind == "frames":
            self._skip(length, is_pixels=True)
        else:
            expected = _ITEM_END if inner.kind == "item" else _SEQUENCE_END
            if tag != expected or length or inner.end != _TO_DELIMITER or len(self._around) == 1:
                raise _HeaderError
            self._leave()

    def _element(self, inner: _Container, tag: int, vr: bytes, length: int, offset: int) -> None:
        header = 8
        if inner.implicit:
            vr, length = b"UN", self._unpack_length(self._window, offset + 4)[0]
        elif HEADER_SIZES.get(vr) == 12:
            if offset > self._last:
                raise _HeaderError
            header, length = 12, self._unpack_length(self._window, offset + 8)[0]
        self._position += header
        is_top = len(self._around) == 1
        if is_top and length == UNDEFINED and vr in (b"OB", b"OW"):
            self._enter("frames", length, implicit=False)
        elif is_top and tag in _PIXELS:
            self._skip(length, is_pixels=True)
        elif vr == b"SQ":
            self._enter("sequence", length, implicit=False)
        elif vr == b"UN" and not self._big_endian and (length == UNDEFINED or self._peek(4) == self._item_tag):
            self._enter("sequence", length, implicit=True)  # PS3.5 6.2.2 Note 1
        else:
            if is_top and tag in self._values:
                value = self._peek(min(length, LONGEST_VALUE))
                self._values[tag] = value.decode("ascii", "replace").strip(" \0")
            self._skip(length)

    def _peek(self, count: int) -> bytes:
        """Return bytes at the current position."""
        offset = self._position - self._base
        if offset + count > len(self._window):
            self._window, self._base, offset = self._stream.at(self._position, WINDOW), self._position, 0
            self._last = len(self._window) - 12
        return self._window[offset : offset + count]

    def _skip(self, length: int, *, is_pixels: bool = False) -> None:
        if length == UNDEFINED:
            raise _HeaderError
        self._position += length
        if is_pixels:
            self._pixel_bytes += length

    def _enter(self, kind: str, length: int, *, implicit: bool) -> None:
        """Enter a container whose content begins at the current position."""
        end, bound = _TO_DELIMITER, self._around[-1].bound
        if length != UNDEFINED:
            end = self._position + length
            if end > bound:
                raise _HeaderError
            bound = end
        self._around.append(_Container(kind, end, bound, implicit))
        self._depth += kind == "sequence"
        if self._depth > MOST_NESTED:
            raise InputError(f"sequences nested more than {MOST_NESTED} deep; correct it at the sender")

    def _leave(self) -> None:
        self._depth -= self._around.pop().kind == "sequence"

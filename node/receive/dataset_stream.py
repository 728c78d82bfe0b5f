"""An encoded data set read forward in windows, inflated if it is deflated (PS3.5 A.5)."""

from __future__ import annotations

import io
import zlib
from math import inf
from typing import BinaryIO, Protocol

from node.errors import InputError

_BLOCK = 1 << 18


class DatasetStream(Protocol):
    """The bytes of a data set. Positions count from its beginning and must not decrease."""

    size: int
    """Bytes of the data set; of a deflated one those that are inflated."""
    bound: float
    """The size, if it is known beforehand."""

    def at(self, position: int, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer at the end of the data set. Raises ``InputError`` when damaged."""


class PlainStream:
    """A data set that is not deflated, from the position of a stream to its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = stream.tell()
        self.size = stream.seek(0, io.SEEK_END) - self._start
        self.bound: float = self.size

    def at(self, position: int, count: int) -> bytes:
        """Return up to ``count`` bytes."""
        self._stream.seek(self._start + position)
        return self._stream.read(count)


class DeflatedStream:
    """A deflated data set from the position of a stream to its end, inflated in pieces with constant memory."""

    def __init__(self, stream: BinaryIO, limit: float) -> None:
        """``limit``: bytes after inflation."""
        self.size = 0
        self.bound = inf
        self._stream = stream
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._limit = limit
        self._input = b""
        self._kept = bytearray()
        """The last bytes that were inflated."""

    def at(self, position: int, count: int) -> bytes:
        """Return up to ``count`` bytes. Raises ``InputError`` when damaged, incomplete or larger than the limit."""
        while self.size < position + count and (inflated := self._inflate()):
            del self._kept[: max(position - self.size + len(self._kept), 0)]
            self._kept += inflated
            self.size += len(inflated)
        first = position - self.size + len(self._kept)
        return bytes(self._kept[first : first + count])

    def _inflate(self) -> bytes:
        """Return the next piece; empty at the end."""
        try:
            while not self._inflater.eof:
                self._input = self._input or self._stream.read(_BLOCK)
                if not self._input:
                    raise InputError("deflated data set is incomplete; correct it at the sender")
                inflated = self._inflater.decompress(self._input, _BLOCK)
                self._input = self._inflater.unconsumed_tail
                if self.size + len(inflated) > self._limit:
                    raise InputError(f"data set inflates to more than {self._limit / 2**20:g} MiB (max_inflated_mib)")
                if inflated:
                    return inflated
        except zlib.error as error:
            raise InputError(f"deflated data set is damaged ({error}); correct it at the sender") from error
        return b""

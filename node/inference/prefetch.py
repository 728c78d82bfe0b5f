"""Prefetch: reads and decodes the next series while the device works on the current one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from node.errors import InputError
from node.pipeline import Unsuitable
from node.studies.source import SourceSeries
from node.studies.stored_image import Decoder, decode_here

MOST = 2
"""Series: of the job that is about to run, and of the one after it, which may be announced before that has begun."""


class Prefetcher:
    """``begin`` and ``take`` may be called by different threads."""

    def __init__(self, decode: Decoder = decode_here) -> None:
        """``decode``: what decodes the images of the series."""
        self._decode = decode
        self._lock = threading.Lock()
        self._begun: OrderedDict[tuple[Path, ...], _Prefetch] = OrderedDict()

    def begin(self, paths: tuple[Path, ...]) -> None:
        """Start to read and decode a series; of those that nobody takes, the oldest beyond ``MOST`` is dropped."""
        prefetch = _Prefetch(paths, self.read)
        with self._lock:
            self._begun[paths] = prefetch
            while len(self._begun) > MOST:
                self._begun.popitem(last=False)
        prefetch.start()

    def drop(self) -> None:
        """Drop what nobody has taken."""
        with self._lock:
            self._begun.clear()

    def take(self, paths: tuple[Path, ...]) -> SourceSeries:
        """The series of ``paths``: made ahead, or read now. Raises as ``SourceSeries.read`` does."""
        with self._lock:
            prefetch = self._begun.pop(paths, None)
        if prefetch is not None:
            prefetch.join()
            if prefetch.made is not None:
                return prefetch.made
        return self.read(paths)

    def read(self, paths: Iterable[Path]) -> SourceSeries:
        """Read the headers of a series now. Raises as ``SourceSeries.read`` does."""
        return SourceSeries.read(paths, self._decode)


class _Prefetch(threading.Thread):
    """Reads and decodes one series."""

    def __init__(self, paths: tuple[Path, ...], read: Callable[[Iterable[Path]], SourceSeries]) -> None:
        super().__init__(name="prefetch", daemon=True)
        self.made: SourceSeries | None = None
        self._paths = paths
        self._read = read

    def run(self) -> None:
        try:
            series = self._read(self._paths)
            self.made = replace(series, decoded=series.volume())
        except (InputError, Unsuitable):
            return  # whoever takes it meets the same again, and says so

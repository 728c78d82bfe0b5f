"""Prefetch: reads and decodes the next series while the device works on the current one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from node.errors import InputError
from node.pipeline import Unsuitable
from node.studies.source import SourceSeries
from node.studies.stored_image import Decoder, decode_here


class Prefetcher:
    """Holds one series at most. ``begin`` and ``take`` may be called by different threads."""

    def __init__(self, decode: Decoder = decode_here) -> None:
        """``decode``: what decodes the images of the series."""
        self._decode = decode
        self._lock = threading.Lock()
        self._paths: tuple[Path, ...] = ()
        self._thread: threading.Thread | None = None
        self._made: SourceSeries | None = None

    def begin(self, paths: tuple[Path, ...]) -> None:
        """Start to read and decode; what was made before and not taken is dropped."""
        with self._lock:
            self._paths, self._made = paths, None
            self._thread = threading.Thread(target=self._make, args=(paths,), name="ahead", daemon=True)
            self._thread.start()

    def take(self, paths: tuple[Path, ...]) -> SourceSeries:
        """The series of ``paths``: made ahead, or read now. Raises as ``SourceSeries.read`` does."""
        with self._lock:
            thread = self._thread if paths == self._paths else None
        if thread is not None:
            thread.join()
        with self._lock:
            prefetched, self._made = self._made, None
        return prefetched if prefetched is not None and thread is not None else self.read(paths)

    def read(self, paths: Iterable[Path]) -> SourceSeries:
        """Read the headers of a series now. Raises as ``SourceSeries.read`` does."""
        return SourceSeries.read(paths, self._decode)

    def _make(self, paths: tuple[Path, ...]) -> None:
        try:
            series = self.read(paths)
            decoded = replace(series, decoded=series.volume())
        except (InputError, Unsuitable):
            return  # whoever takes it meets the same again, and says so
        with self._lock:
            if paths == self._paths:
                self._made = decoded

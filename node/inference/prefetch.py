"""Prefetch: reads and decodes the next series while the device works on the current one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from node.errors import InputError
from node.pipeline import Unsuitable
from node.studies.source import SourceSeries
from node.studies.stored_image import Decoder, decode_here

MOST = 2
"""Jobs: the one that is about to run, and the one after it, which may be announced before that has begun."""


class Prefetcher:
    """``begin`` and ``reader`` may be called by different threads."""

    def __init__(self, decode: Decoder = decode_here) -> None:
        """``decode``: what decodes the images of the series."""
        self._decode = decode
        self._lock = threading.Lock()
        self._begun: OrderedDict[tuple[Path, ...], _Prefetch] = OrderedDict()

    def begin(self, paths: tuple[Path, ...], *others: tuple[Path, ...]) -> None:
        """Start to read and decode the series of a job, then its companions and the images of its prior.

        Of jobs that nobody takes, the oldest beyond ``MOST`` is dropped.
        """
        prefetch = _Prefetch((paths, *filter(None, others)), self.read)
        with self._lock:
            self._begun[paths] = prefetch
            while len(self._begun) > MOST:
                self._begun.popitem(last=False)
        prefetch.start()

    def drop(self) -> None:
        """Drop what nobody has taken."""
        with self._lock:
            self._begun.clear()

    def reader(self, paths: tuple[Path, ...]) -> Callable[[tuple[Path, ...]], SourceSeries]:
        """How the job of the series ``paths`` reads its series: each as it was made ahead, or now.

        It raises as ``SourceSeries.read`` does. What it does not take is gone with it.
        """
        with self._lock:
            prefetch = self._begun.pop(paths, None)
        return self.read if prefetch is None else prefetch.take

    def read(self, paths: Iterable[Path]) -> SourceSeries:
        """Read the headers of a series now. Raises as ``SourceSeries.read`` does."""
        return SourceSeries.read(paths, self._decode)


class _Prefetch(threading.Thread):
    """Reads and decodes the series of one job, one after another."""

    def __init__(self, series: Iterable[tuple[Path, ...]], read: Callable[[Iterable[Path]], SourceSeries]) -> None:
        super().__init__(name="prefetch", daemon=True)
        self._made: dict[tuple[Path, ...], Future[SourceSeries | None]] = {paths: Future() for paths in series}
        self._read = read

    def take(self, paths: tuple[Path, ...]) -> SourceSeries:
        """The series of ``paths``, once: made ahead, or read now."""
        series_ahead = self._made.pop(paths, None)
        return (series_ahead.result() if series_ahead else None) or self._read(paths)

    def run(self) -> None:
        ahead = [*self._made.items()]
        try:
            for paths, series_ahead in ahead:
                series_ahead.set_result(self._decoded(paths))
        finally:  # whoever waits reads it then
            for _, series_ahead in ahead:
                if not series_ahead.done():
                    series_ahead.set_result(None)

    def _decoded(self, paths: tuple[Path, ...]) -> SourceSeries | None:
        try:
            series = self._read(paths)
            return replace(series, decoded=series.volume())
        except (InputError, Unsuitable):
            return None  # whoever takes it meets the same again, and says so

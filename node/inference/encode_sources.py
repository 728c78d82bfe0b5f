"""The files of a series, read to encode an analysis of it: ahead, while its pipeline runs, or when that is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset

from node.errors import InputError
from node.results.gate.references import received
from node.results.header_repairs import drop_unreadable, repairs_of
from node.studies.header import read_header
from node.studies.source import SourceSeries

_MOST = 2
"""Series: of the job that is encoded next, and of the one after it, which may be read before that has begun."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the files of a series say."""

    series: SourceSeries
    """Without what cannot be read."""
    repairs: tuple[str, ...]
    files: Mapping[Path, Dataset]
    """For the gate: see ``node.results.gate.check``, which reads for itself."""


def read_ahead(paths: tuple[Path, ...]) -> None:
    """Read a series, for ``take``; of those that nobody takes, the oldest is dropped. Raises as ``take``."""
    _ahead(paths)[:] = [_read(paths)]


def take(paths: tuple[Path, ...]) -> Sources:
    """The series of ``paths``: read ahead, or now. Raises ``InputError`` when it cannot be read."""
    ahead = _ahead(paths)
    return ahead.pop() if ahead else _read(paths)


@lru_cache(maxsize=_MOST)
def _ahead(_paths: tuple[Path, ...]) -> list[Sources]:
    """Where a series is kept until it is taken."""
    return []


def _read(paths: tuple[Path, ...]) -> Sources:
    series = _readable_series(paths)
    repairs = (*drop_unreadable(series), *repairs_of(series))
    return Sources(series=series, repairs=repairs, files=received(series.paths))


def _readable_series(paths: tuple[Path, ...]) -> SourceSeries:
    """The series without files that cannot be read: a result must be able to say that they cannot."""
    try:
        return SourceSeries.read(paths)
    except InputError:
        return SourceSeries.read([path for path in paths if _is_readable(path)])


def _is_readable(path: Path) -> bool:
    try:
        read_header(path)
    except InputError:
        return False
    return True

"""The images of a series as what removes faces gets them: with what changes when they are received again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class SourceImage(NamedTuple):
    """The file of one image."""

    path: Path
    state: tuple[int, int, int] | None
    """Inode, time of the last change and size, which differ after a series was deleted and received again at the same
    path; ``None``: there is no such file."""


def source_images(paths: Iterable[Path]) -> tuple[SourceImage, ...]:
    """Look at each file once, for all objects that are made from the series."""
    return tuple(SourceImage(path, _state(path)) for path in paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None

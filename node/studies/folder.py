"""DICOM files of a folder by series, for commands that work without a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from node.confined import ConfinedProcess
from node.errors import NotFoundError
from node.studies.attributes import series_of

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much."""
_AT_ONCE = 50


def series_below(places: Iterable[Path], progress: Progress) -> tuple[dict[tuple[str, str], list[Path]], int]:
    """Paths by Study and Series Instance UID, those with most images first, and how many files are no DICOM.

    Raises ``NotFoundError`` when there is none.
    """
    given = [place.absolute() for place in places]
    files = [f for p in given for f in (sorted(path for path in p.rglob("*") if path.is_file()) if p.is_dir() else [p])]
    groups: dict[tuple[str, str], list[Path]] = {}
    with closing(file_reader(files)) as reader:
        for number in range(0, len(files), _AT_ONCE):
            progress("reading headers", number, len(files))
            batch = files[number : number + _AT_ONCE]
            for path, uids in zip(batch, reader.call("the files", series_of, batch), strict=True):
                if all(uids):  # a DICOMDIR has none
                    groups.setdefault(uids, []).append(path)
    if not groups:
        names = ", ".join(map(str, given))
        raise NotFoundError(f"{names}: no DICOM file among {len(files)} files; give the folder of a study or series")
    return dict(sorted(groups.items(), key=lambda item: -len(item[1]))), len(files) - sum(map(len, groups.values()))


def file_reader(files: Iterable[Path]) -> ConfinedProcess:
    """Return a process that can read these files, also where they are links, and what is next to them."""
    return ConfinedProcess("header reader", readable=folders_of(files), decodes=False)


def folders_of(files: Iterable[Path]) -> set[Path]:
    """Return the folders that a process must see to open these files: where they are, and where links lead."""
    return {folder for path in files for folder in (path.absolute().parent, path.resolve().parent)}

"""DICOM files of a folder by series, for commands that work without a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from node.errors import InputError, NotFoundError
from node.studies.header import read_header

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much."""


def series_below(places: Iterable[Path], progress: Progress) -> tuple[dict[tuple[str, str], list[Path]], int]:
    """Paths by Study and Series Instance UID, those with most images first, and how many files are no DICOM.

    Raises ``NotFoundError`` when there is none.
    """
    given = list(places)
    files = [f for p in given for f in (sorted(one for one in p.rglob("*") if one.is_file()) if p.is_dir() else [p])]
    groups: dict[tuple[str, str], list[Path]] = {}
    for number, path in enumerate(files):
        if number % 50 == 0:
            progress("reading headers", number, len(files))
        try:
            header = read_header(path)
        except InputError:
            continue
        uids = (str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", "")))
        if all(uids):  # a DICOMDIR has none
            groups.setdefault(uids, []).append(path)
    if not groups:
        names = ", ".join(map(str, given))
        raise NotFoundError(f"{names}: no DICOM file among {len(files)} files; give the folder of a study or series")
    return dict(sorted(groups.items(), key=lambda item: -len(item[1]))), len(files) - sum(map(len, groups.values()))

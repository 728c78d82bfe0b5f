"""Studies with truth in a folder: series of images, and the segmentations and structure sets that outline lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from node import MAKER
from node.confined import bounded
from node.errors import InputError
from node.feedback.references import referenced_series
from node.studies.attributes import SEGMENTATIONS, STRUCTURE_SET
from node.studies.folder import Progress, file_reader
from node.studies.header import read_header
from node.studies.pydicom_errors import UNREADABLE

_AT_ONCE = 50
_FILE_SECONDS = 10.0
"""Of computing for one header."""
_WITHOUT_PIXELS = ("", "SR", "PR", "KO", "DOC", "REG", "RTPLAN", "RTDOSE", "RTRECORD", "RTSTRUCT", "SEG")
"""Modalities of series that no pipeline is tested on."""


@dataclass(frozen=True, kw_only=True)
class TruthPart:
    """An object that outlines lesions of a series."""

    path: Path
    lesions: tuple[str, ...] | None = None
    """Tracking UIDs, or "segment" and a number; ``None``: all."""
    edits: tuple[str, ...] = ()
    """Lesions of ``edited``, by Tracking UID: what this object has in their place counts as well."""
    edited: Path | None = None
    """Segmentation of the node that a reader has edited."""


@dataclass(frozen=True, kw_only=True)
class TruthCase:
    """A series of images and what outlines its lesions; without any part it has none."""

    study_instance_uid: str
    series_instance_uid: str
    images: tuple[Path, ...]
    parts: tuple[TruthPart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TruthFolder:
    """What a folder holds."""

    cases: tuple[TruthCase, ...]
    without_truth: int
    """Series of images that nothing outlines."""
    without_images: int
    """Objects whose images are not there."""
    of_this_software: int
    """Results of a node, which are no truth."""


@dataclass(frozen=True, kw_only=True)
class ObjectHeader:
    """What the header of a file says of it."""

    study: str
    """Study Instance UID."""
    series: str
    """Series Instance UID; empty: the file is no DICOM, or cannot be read."""
    modality: str
    outlines: bool
    """It is a segmentation or a structure set."""
    outlined: tuple[str, ...]
    """Series Instance UIDs of the images that it outlines something on."""
    of_this_software: bool


def read_truth_folder(folder: Path, progress: Progress, *, negatives: bool, images: Path | None = None) -> TruthFolder:
    """Find the series of a folder and their truth; ``negatives``: a series without truth has no lesion.

    ``images``: another folder that may hold the images.

    Raises ``InputError`` without a series that can be tested.
    """
    folders = [folder.absolute(), *([images.absolute()] if images is not None else [])]
    files = sorted({path for below in folders for path in below.rglob("*") if path.is_file()})
    headers: dict[Path, ObjectHeader] = {}
    with closing(file_reader(files)) as reader:
        for number in range(0, len(files), _AT_ONCE):
            progress("reading headers", number, len(files))
            batch = files[number : number + _AT_ONCE]
            headers |= zip(batch, reader.call("the files", object_headers, batch), strict=True)
    truth = _cases({path: header for path, header in headers.items() if header.series}, negatives=negatives)
    if not truth.cases:
        raise InputError(
            f"{folder}: none of {len(files)} files is of a series with a segmentation (SEG) or structure set "
            "(RTSTRUCT) that refers to it; put both into the folder"
        )
    return truth


def _cases(headers: Mapping[Path, ObjectHeader], *, negatives: bool) -> TruthFolder:
    images: dict[str, list[Path]] = {}
    for path, header in headers.items():
        if header.modality not in _WITHOUT_PIXELS:
            images.setdefault(header.series, []).append(path)
    outlining = {path: header for path, header in headers.items() if header.outlines}
    parts: dict[str, list[TruthPart]] = {}
    without_images = 0
    for path, header in outlining.items():
        if header.of_this_software:
            continue
        known = [uid for uid in header.outlined if uid in images]
        without_images += not known
        for uid in known:
            parts.setdefault(uid, []).append(TruthPart(path=path))
    return TruthFolder(
        cases=tuple(
            TruthCase(
                study_instance_uid=headers[paths[0]].study,
                series_instance_uid=uid,
                images=tuple(paths),
                parts=tuple(parts.get(uid, ())),
            )
            for uid, paths in sorted(images.items())
            if uid in parts or negatives
        ),
        without_truth=len(images.keys() - parts.keys()),
        without_images=without_images,
        of_this_software=sum(header.of_this_software for header in outlining.values()),
    )


def object_headers(paths: Sequence[Path]) -> list[ObjectHeader]:
    """Read the header of each file, for a confined process; an unreadable one says nothing."""
    return [_object_header(path) for path in paths]


def _object_header(path: Path) -> ObjectHeader:
    try:
        with bounded(path.name, _FILE_SECONDS):
            header = read_header(path)
            series = {str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence") or ()}
            return ObjectHeader(
                study=str(header.get("StudyInstanceUID") or ""),
                series=str(header.get("SeriesInstanceUID") or ""),
                modality=str(header.get("Modality") or "")[:16],
                outlines=str(header.get("SOPClassUID") or "") in (*SEGMENTATIONS, STRUCTURE_SET),
                outlined=tuple(sorted(series | referenced_series(header))),
                of_this_software=str(header.get("Manufacturer") or "") == MAKER,
            )
    except (InputError, *UNREADABLE):
        return ObjectHeader(study="", series="", modality="", outlines=False, outlined=(), of_this_software=False)

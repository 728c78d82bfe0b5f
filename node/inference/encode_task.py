"""A task for the process that encodes, and what it returns: plain values and files, no data sets.

``node.inference.encode_and_check`` decides what is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from node.config import Language
from node.config.escalation import MeasurementLimit
from node.results.escalation import UrgentMeasurement
from node.results.similar_text import SimilarEntries


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image of the series, with what the ledger knows of it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    modality: str


@dataclass(frozen=True, kw_only=True)
class PreviousFiles:
    """An earlier result on the series; see ``node.ledger.jobs.PreviousResult``."""

    analysis: str | None
    version: int
    replaces: str
    paths: dict[str, Path]
    """By kind of object."""


@dataclass(frozen=True, kw_only=True)
class NoteTask:
    """A rejection note to encode, on results of one job."""

    pipeline: str
    generation: int
    reason: str
    """Key of ``node.results.rejection.REJECTIONS``."""
    stated: str = ""
    """The reason in words; empty: those of ``reason``."""
    replaced_at: str = ""
    """The destination that holds them, when they are withdrawn because others take their place."""
    salt: str
    results: tuple[Path, ...]
    out: Path


@dataclass(frozen=True, kw_only=True)
class EncodeTask:
    """One analysis to encode."""

    job_id: str
    study_instance_uid: str
    series_instance_uid: str
    images: tuple[ImageFile, ...]
    pipeline: str
    title: str
    generation: int
    outcome: str
    reason: str
    incomplete: str
    caveat: str
    created_at: float
    """Seconds since 1970 UTC."""
    salt: str
    kinds: frozenset[str]
    """Kinds of objects to make."""
    profiles: tuple[frozenset[str], ...]
    """Kinds that each destination takes."""
    languages: tuple[Language, ...]
    """Languages of the destinations."""
    limits: tuple[MeasurementLimit, ...] = ()
    """Of measurements, beyond which the result is urgent."""
    link: str = ""
    """Address of the page of the study on the dashboard; empty: results do not show it."""
    embeddings: bool = False
    """Return the embeddings of lesions."""
    similar: SimilarEntries | None = None
    """For the PDF report."""
    previous: tuple[PreviousFiles, ...]
    handover: Path
    """Folder of the handover, which may be empty after a failure."""
    out: Path
    """Folder for the objects."""


@dataclass(frozen=True, kw_only=True)
class EncodedFile:
    """One object in the folder ``EncodeTask.out``."""

    name: str
    kind: str
    description: str
    quarantine: str | None = None
    """Why it must not be sent."""
    analysis: str | None = None
    version: int | None = None
    replaces: str | None = None


class Failure(NamedTuple):
    """An error of a class of ``node.errors``."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class EncodedEmbedding:
    """The embedding of one lesion."""

    lesion: str
    """Tracking UID."""
    label: str
    vector: bytes
    """float32 of this machine's byte order, of length 1."""
    long_axis_mm: float | None
    patient: str
    """Keyed hash of the patient's ID; empty: the images have none."""
    study_date: str
    """YYYYMMDD; empty: the images have none."""


@dataclass(frozen=True, kw_only=True)
class EncodedEmbeddings:
    """The embeddings of an analysis, which are in none of its objects."""

    space: str
    dimensions: int
    statement: tuple[str, dict[str, str]]
    """English, and translations by language."""
    lesions: tuple[EncodedEmbedding, ...]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What became of a task."""

    files: tuple[EncodedFile, ...]
    outcome: str
    refused: Failure | None = None
    """Why the objects of the analysis were refused; the files then report a failure."""
    withheld: tuple[tuple[list[str], Failure | None], ...] = ()
    """Kinds that are missing, and why."""
    urgent: UrgentMeasurement | None = None
    """The first measurement beyond a limit."""
    embeddings: EncodedEmbeddings | None = None
    """``None``: there are none, or they are not wanted."""
    repairs: tuple[str, ...] = ()
    """What was wrong with the headers of the series."""

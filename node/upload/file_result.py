"""What became of the files of an upload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class FileKind(StrEnum):
    """What became of a file."""

    STORED = "stored"
    """The receiver has answered with Success."""
    REFUSED = "refused"
    DIRECTORY = "directory"
    """A DICOMDIR, which is read and not sent."""
    OTHER = "other"
    """No DICOM file."""


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """The result for one file."""

    name: str
    """Path below the folder or in the archive; it may hold the name of a patient."""
    kind: FileKind
    sop_class_uid: str = ""
    """Empty if it is not known."""
    sop_instance_uid: str = ""
    """Empty if it is not known."""
    named: tuple[str, ...] = ()
    """SOP Instance UIDs that a DICOMDIR names."""
    reason: str = ""
    """Why it was refused."""
    status: int | None = None
    """Status (0000,0900) of the receiver; ``None``: it was not asked, or did not answer."""


@dataclass(frozen=True, kw_only=True)
class UploadSummary:
    """The results of an upload, counted."""

    stored: int
    other: int
    """Files that are no DICOM."""
    refused: tuple[FileResult, ...]
    missing: tuple[str, ...]
    """SOP Instance UIDs that a DICOMDIR names and no file has."""

    @classmethod
    def of(cls, results: Iterable[FileResult]) -> UploadSummary:
        by_kind: dict[FileKind, list[FileResult]] = {kind: [] for kind in FileKind}
        named: set[str] = set()
        present: set[str] = set()
        for result in results:
            by_kind[result.kind].append(result)
            named.update(result.named)
            present.add(result.sop_instance_uid)
        return cls(
            stored=len(by_kind[FileKind.STORED]),
            other=len(by_kind[FileKind.OTHER]),
            refused=tuple(by_kind[FileKind.REFUSED]),
            missing=tuple(sorted(named - present)),
        )

    @property
    def reasons(self) -> list[tuple[str, int, str]]:
        """Why files were refused, the most frequent reason first: reason, number of files, name of the first."""
        counts = Counter(result.reason for result in self.refused)
        first = {result.reason: result.name for result in reversed(self.refused)}
        return [(reason, count, first[reason]) for reason, count in counts.most_common()]

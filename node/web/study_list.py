"""The list of studies with their progress."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.conflicts import conflicts_by_study
from node.ledger.progress import Progress, StudyProgress
from node.ledger.results import quarantined_by_study
from node.ledger.study_progress import latest_studies, progress_of
from node.translation import marked

STAGES = {
    Progress.RECEIVING: marked("images arrive, or the quiet period runs"),
    Progress.WAITING: marked("a rule waits for other series of the study"),
    Progress.QUEUED: marked("waits for a worker"),
    Progress.RUNNING: marked("the pipeline computes"),
    Progress.ENCODING: marked("DICOM objects are made and checked"),
    Progress.DELIVERING: marked("objects are sent, or proof is awaited"),
    Progress.STORED: marked("every destination has stored everything"),
    Progress.CONFIRMED: marked("every destination has committed to keep it"),
    Progress.KEPT: marked("finished; nothing is to be delivered"),
    Progress.HELD: marked("images of different patients or orders; needs an operator"),
    Progress.IGNORED: marked("no rule matched"),
    Progress.CANCELLED: marked("stopped by an operator or given up"),
    Progress.FAILED: marked("all attempts failed"),
}
"""In the order of the walk, with what each means."""
_SHOWN_AS = {Progress.UNDECIDED: Progress.RECEIVING, Progress.ROUTED: Progress.QUEUED}
"""What the router is about to change is not shown as a stage of its own."""
LOOKED_AT = 500
"""Latest studies among which stages are counted and names are searched."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study in one line."""

    progress: StudyProgress
    conflicts: int
    quarantined: int

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return self.progress.study_instance_uid

    @property
    def stage(self) -> Progress:
        """One of ``STAGES``."""
        return _SHOWN_AS.get(self.progress.progress, self.progress.progress)

    @property
    def modalities(self) -> str:
        """Of all its series."""
        return ", ".join(sorted({series_progress.series.modality or "?" for series_progress in self.progress.series}))


def latest(connection: sa.Connection, text: str = "") -> list[Study]:
    """The latest studies, newest first; only those whose UID (or the UID of a series, or a job id) holds ``text``."""
    return listed(connection, latest_studies(connection, LOOKED_AT, text))


def listed(connection: sa.Connection, uids: Collection[str]) -> list[Study]:
    """These studies, in their order."""
    conflicts, quarantined = conflicts_by_study(connection, uids), quarantined_by_study(connection, uids)
    return [
        Study(
            progress=study,
            conflicts=conflicts.get(study.study_instance_uid, 0),
            quarantined=quarantined.get(study.study_instance_uid, 0),
        )
        for study in progress_of(connection, uids)
    ]

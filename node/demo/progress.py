"""What the node is doing with the series that were sent, read from its ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table
from sqlalchemy import Connection

from node.demo.scanner import DicomFile
from node.ledger.progress import OPEN, JobProgress, Progress, SeriesProgress
from node.ledger.study_progress import progress_of
from node.reasons import reason_text


@dataclass(frozen=True)
class Sent:
    """One series as the scanner sent it."""

    study_instance_uid: str
    series_instance_uid: str
    name: str
    images: int


@dataclass(frozen=True)
class ProgressRow:
    """One pipeline on one series, or a series that has no pipeline (yet)."""

    name: str
    images: str
    """Received of sent."""
    state: str
    """Of the series: receiving, complete, routed or ignored."""
    pipeline: str = ""
    stage: str = ""
    outcome: str = ""
    delivered: str = ""
    seconds: float | None = None
    """From the last image received to the last change of a finished job."""
    reason: str = ""
    over: bool = False
    good: bool = True
    """False when the pipeline failed or was cancelled."""

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of ``HEADINGS``."""
        time = "" if self.seconds is None else f"{self.seconds:.0f} s"
        return self.name, self.images, self.state, self.pipeline, self.stage, self.outcome, self.delivered, time


HEADINGS = ("Series", "Images", "Series is", "Pipeline", "Job", "Outcome", "Delivery", "Time")


def sent_series(files: Sequence[DicomFile]) -> tuple[Sent, ...]:
    """The series among ``files``, in their order."""
    names = {(f.study_instance_uid, f.series_instance_uid): f"{f.modality} {f.description}".strip() for f in files}
    counts = Counter((f.study_instance_uid, f.series_instance_uid) for f in files)
    return tuple(Sent(study, uid, name or uid, counts[study, uid]) for (study, uid), name in names.items())


def progress(connection: Connection, sent: Sequence[Sent]) -> tuple[ProgressRow, ...]:
    """One row for each pipeline that works on each series."""
    studies = progress_of(connection, dict.fromkeys(series.study_instance_uid for series in sent))
    received = {member.series.series_instance_uid: member for study in studies for member in study.series}
    return tuple(row for series in sent for row in _rows(series, received.get(series.series_instance_uid)))


def _rows(sent: Sent, received: SeriesProgress | None) -> Iterator[ProgressRow]:
    if received is None:
        yield ProgressRow(sent.name, f"0/{sent.images}", "being sent")
        return
    undecided = received.routing in (Progress.RECEIVING, Progress.UNDECIDED)
    state = received.series.state.lower() if undecided else str(received.routing)
    head = (sent.name, f"{received.series.instances}/{sent.images}", state)
    for work in sorted(received.current_jobs, key=lambda work: work.job.pipeline):
        yield _job(head, work, received.series.last_at)
    if not received.current_jobs:
        yield ProgressRow(
            *head,
            over=received.progress not in OPEN,
            reason=reason_text(received.decision.reason) if received.decision else "",
        )


def _job(head: tuple[str, str, str], work: JobProgress, last_at: float) -> ProgressRow:
    job, over = work.job, work.progress not in OPEN
    return ProgressRow(
        *head,
        pipeline=job.pipeline,
        stage=job.state if over else f"{job.stage} {job.state.lower()}",
        outcome=job.outcome or "",
        delivered=", ".join(sorted({delivery.state for delivery in work.deliveries})),
        seconds=job.updated_at - last_at if over else None,
        reason=reason_text(job.reason),
        over=over,
        good=work.progress not in (Progress.FAILED, Progress.CANCELLED, Progress.HELD),
    )


def table(rows: Sequence[ProgressRow]) -> Table:
    """``rows`` for a terminal."""
    shown = Table(title="The node at work", title_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading, no_wrap=heading != "Series", overflow="fold")
    previous = ""
    for row in rows:
        # What a second pipeline of the same series would only repeat is left out.
        cells = row.cells if row.name != previous else ("", "", "", *row.cells[3:])
        shown.add_row(*cells, style="" if not row.over else "green" if row.good else "red")
        previous = row.name
    return shown

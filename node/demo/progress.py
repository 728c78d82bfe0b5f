"""What the node is doing with the series that were sent, read from its ledger alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from sqlalchemy import Connection

from node.demo.scanner import DicomFile
from node.ledger import ACTIVE, DecisionOutcome, JobState
from node.ledger.decisions import decision_of
from node.ledger.jobs import Job, jobs_of
from node.ledger.pending_deliveries import deliveries_of
from node.ledger.series import series_with_uid


@dataclass(frozen=True)
class Sent:
    """One series as the scanner sent it."""

    series_instance_uid: str
    name: str
    images: int


@dataclass(frozen=True)
class Progress:
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
    names = {f.series_instance_uid: f"{f.modality} {f.description}".strip() for f in files}
    counts = {uid: sum(f.series_instance_uid == uid for f in files) for uid in names}
    return tuple(Sent(uid, name or uid, counts[uid]) for uid, name in names.items())


def progress(connection: Connection, sent: Sequence[Sent]) -> tuple[Progress, ...]:
    """One row for each pipeline that works on each series."""
    rows: list[Progress] = []
    for one in sent:
        series = series_with_uid(connection, one.series_instance_uid)
        if series is None:
            rows.append(Progress(one.name, f"0/{one.images}", "being sent"))
            continue
        decision = decision_of(connection, series)
        state = series.state.lower() if decision is None else decision.outcome
        head = (one.name, f"{series.instances}/{one.images}", state)
        jobs = jobs_of(connection, series)
        if not jobs:
            ended = decision is not None and decision.outcome in (DecisionOutcome.IGNORED, DecisionOutcome.HELD)
            rows.append(Progress(*head, over=ended, reason=decision.reason if decision is not None else ""))
        rows += [_job(connection, head, job, series.last_at) for job in jobs]
    return tuple(rows)


def _job(connection: Connection, head: tuple[str, str, str], job: Job, last_at: float) -> Progress:
    over = job.state not in ACTIVE
    return Progress(
        *head,
        pipeline=job.pipeline,
        stage=job.state if over else f"{job.stage} {job.state.lower()}",
        outcome=job.outcome or "",
        delivered=", ".join(sorted({delivery.state for delivery in deliveries_of(connection, job.id)})),
        seconds=job.updated_at - last_at if over else None,
        reason=job.reason or "",
        over=over,
        good=job.state != JobState.CANCELED and job.outcome != "failed",
    )


def table(rows: Sequence[Progress]) -> Table:
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

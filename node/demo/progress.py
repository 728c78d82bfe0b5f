"""What the node is doing with the series that were sent, read from its ledger alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from rich.table import Table

from node.demo.scanner import DicomFile
from node.ledger.tables import decision, delivery, job, series

_OVER = ("COMPLETED", "CANCELED")


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


def progress(connection: sa.Connection, sent: Sequence[Sent]) -> tuple[Progress, ...]:
    """One row for each pipeline that works on each series."""
    rows: list[Progress] = []
    for one in sent:
        state = connection.execute(
            sa.select(series).where(series.c.series_instance_uid == one.series_instance_uid)
        ).one_or_none()
        if state is None:
            rows.append(Progress(one.name, f"0/{one.images}", "being sent"))
            continue
        verdict = connection.execute(
            sa.select(decision).where(
                decision.c.series_instance_uid == one.series_instance_uid, decision.c.generation == state.generation
            )
        ).one_or_none()
        routed = "" if verdict is None else str(verdict.outcome)
        head = (one.name, f"{state.instances}/{one.images}", routed or str(state.state).lower())
        jobs = connection.execute(
            sa.select(job)
            .where(job.c.series_instance_uid == one.series_instance_uid, job.c.generation == state.generation)
            .order_by(job.c.pipeline)
        ).all()
        if not jobs:
            ignored = verdict is not None and verdict.outcome in ("ignored", "held")
            rows.append(Progress(*head, over=ignored, reason=str(verdict.reason) if verdict else ""))
        rows += [_job(connection, head, work, state.last_at) for work in jobs]
    return tuple(rows)


def _job(
    connection: sa.Connection, head: tuple[str, str, str], work: sa.Row[tuple[object, ...]], last_at: float
) -> Progress:
    states = connection.scalars(sa.select(delivery.c.state).where(delivery.c.job_id == work.id)).all()
    over = work.state in _OVER
    return Progress(
        *head,
        pipeline=str(work.pipeline),
        stage=str(work.state if over else f"{work.stage} {work.state.lower()}"),
        outcome=str(work.outcome or ""),
        delivered=", ".join(sorted(set(states))),
        seconds=work.updated_at - last_at if over else None,
        reason=str(work.reason or ""),
        over=over,
        good=work.state != "CANCELED" and work.outcome != "failed",
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

"""The rows that the account is made of, all of one moment, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.ledger.account_rows import (
    AccountResult,
    AccountSeries,
    RowsWithoutOrigin,
    account_results,
    account_series,
    rows_without_origin,
)
from node.ledger.clock import ledger_clock
from node.ledger.conflicts import ConflictRecord, all_conflicts
from node.ledger.corrections import HalfCorrected, Outdated, half_corrected, outdated_deliveries
from node.ledger.engine import snapshot
from node.ledger.held_series import Held, held
from node.ledger.jobs import Job, list_jobs, stuck_jobs
from node.ledger.pending_deliveries import DeliveryStatus, all_deliveries
from node.ledger.undecided import Undecided, undecided_series
from node.operate.account.refusals import Refusals, refusals
from node.spool import Spool

QUEUE_MINUTES = 60.0
"""The default of ``[notify] queue_minutes``."""
ROWLESS_SECONDS = 60.0
"""A received image without a row for this long is a problem; most rows follow within a second."""


@dataclass(frozen=True, kw_only=True)
class AccountRows:
    """The ledger as the account needs it."""

    series: tuple[AccountSeries, ...]
    jobs: tuple[Job, ...]
    results: tuple[AccountResult, ...]
    deliveries: tuple[DeliveryStatus, ...]
    conflicts: tuple[ConflictRecord, ...]
    outdated: tuple[Outdated, ...]
    """Results sent for images received again with another identity."""
    half_corrected: tuple[HalfCorrected, ...]
    """Series of which only some images did; they wait for people."""
    held: tuple[Held, ...]
    """Series and jobs whose images contradict one another on whose they are."""
    without_origin: tuple[RowsWithoutOrigin, ...]
    refused: tuple[Refusals, ...]
    """Images that were sent and not taken."""
    stuck: tuple[Job, ...]
    """Jobs that have made no progress for too long, whatever was tried; none that an operator holds up."""
    undecided: tuple[Undecided, ...]
    """Series that wait for nothing, and have not been decided on for too long."""
    rowless: int
    """Received images that should have a row by now."""

    def between(self, start: float, end: float) -> AccountRows:
        """Of the series whose first image came in [``start``, ``end``): every series belongs to one day."""
        chosen = tuple(s for s in self.series if start <= s.first_at < end)
        keys = {(s.study_instance_uid, s.series_instance_uid) for s in chosen}
        jobs = tuple(j for j in self.jobs if (j.study_instance_uid, j.series_instance_uid) in keys)
        ids = {j.id for j in jobs}
        known = {(s.study_instance_uid, s.series_instance_uid) for s in self.series}
        return replace(
            self,
            series=chosen,
            jobs=jobs,
            results=tuple(r for r in self.results if r.job_id in ids),
            deliveries=tuple(d for d in self.deliveries if d.job_id in ids),
            conflicts=tuple(c for c in self.conflicts if (c.study_instance_uid, c.series_instance_uid) in keys),
            outdated=tuple(o for o in self.outdated if o.job_id in ids),
            half_corrected=tuple(h for h in self.half_corrected if h.job_id in ids),
            held=tuple(h for h in self.held if (h.study_instance_uid, h.series_instance_uid) in keys),
            refused=tuple(
                r
                for r in self.refused
                if ((r.study_instance_uid, r.series_instance_uid) in keys)
                or (start <= r.at < end and (r.study_instance_uid, r.series_instance_uid) not in known)
            ),
            stuck=tuple(j for j in self.stuck if j.id in ids),
            undecided=tuple(u for u in self.undecided if (u.study_instance_uid, u.series_instance_uid) in keys),
        )


def read(engine: sa.Engine, spool: Spool | None = None, *, queue_minutes: float = QUEUE_MINUTES) -> AccountRows:
    """All of it; images are counted by the database, everything else is a few rows per series.

    ``spool``: where received images without a row are looked for. A job without progress, or a series
    without a decision, for ``queue_minutes`` is stuck.
    """
    with snapshot(engine) as connection:
        return AccountRows(
            series=account_series(connection),
            jobs=tuple(list_jobs(connection, limit=None)),
            results=account_results(connection),
            deliveries=tuple(all_deliveries(connection)),
            conflicts=tuple(all_conflicts(connection)),
            outdated=tuple(outdated_deliveries(connection)),
            half_corrected=tuple(half_corrected(connection)),
            held=tuple(held(connection)),
            without_origin=rows_without_origin(connection),
            refused=tuple(refusals(connection)),
            stuck=tuple(stuck_jobs(connection, ledger_clock(connection) - queue_minutes * 60)),
            undecided=tuple(undecided_series(connection, ledger_clock(connection) - queue_minutes * 60)),
            rowless=spool.drafts.without_row(ROWLESS_SECONDS) if spool is not None else 0,
        )

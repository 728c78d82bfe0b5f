"""The rows that the account is made of, all of one moment, as values of some studies at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from node.ledger.account_rows import (
    AccountResult,
    AccountSeries,
    account_results,
    account_series,
    image_counts,
    studies_at_once,
)
from node.ledger.clock import ledger_clock
from node.ledger.conflicts import ConflictRecord, all_conflicts
from node.ledger.corrections import HalfCorrected, Outdated, half_corrected, outdated_deliveries
from node.ledger.decision_records import unrecorded_studies
from node.ledger.engine import snapshot
from node.ledger.excluded_images import ExcludedImage, excluded_images
from node.ledger.held_series import Held, held
from node.ledger.jobs import Job, job_ids_of, jobs_of_studies
from node.ledger.key_ranges import KeyCondition
from node.ledger.missing_copies import count_missing_copies
from node.ledger.missing_origins import MissingOrigin, RowsWithoutOrigin, jobs_at_once
from node.ledger.pending_attempts import stuck_jobs
from node.ledger.pending_deliveries import DeliveryStatus, deliveries_of_studies
from node.ledger.series import Series, series_of_studies
from node.ledger.study_record import study_state
from node.ledger.undecided import Undecided, undecided_series
from node.operate.account.origins import Origins
from node.operate.account.refusals import Refusals, refusals
from node.operate.records.recorder import is_recorded
from node.spool import Spool

QUEUE_MINUTES = 60.0
"""The default of ``[notify] queue_minutes``."""
RECORD_SECONDS = 900.0
"""A finished study without a decision record for this long is a problem; it is recorded within two minutes."""
ROWLESS_SECONDS = 60.0
"""A received image without a row for this long is a problem; most rows follow within a second."""
COPY_SECONDS = 60.0
"""A file with one copy only for this long is an alert, where two are wanted."""
ROWS_AT_ONCE = 1000
"""Series, or jobs, that a statement reads."""


@dataclass(frozen=True, kw_only=True)
class AccountRows:
    """The ledger as the account needs it, of some studies."""

    series: tuple[AccountSeries, ...] = ()
    jobs: tuple[Job, ...] = ()
    results: tuple[AccountResult, ...] = ()
    deliveries: tuple[DeliveryStatus, ...] = ()
    conflicts: tuple[ConflictRecord, ...] = ()
    outdated: tuple[Outdated, ...] = ()
    """Results sent for images received again with another identity."""
    half_corrected: tuple[HalfCorrected, ...] = ()
    """Series of which only some images did; they wait for people."""
    held: tuple[Held, ...] = ()
    """Series and jobs whose images contradict one another on whose they are."""
    excluded: tuple[ExcludedImage, ...] = ()
    """Images that an operator has taken out of their series."""
    refused: tuple[Refusals, ...] = ()
    """Images that were sent and not taken."""
    stuck: tuple[Job, ...] = ()
    """Jobs that have made no progress for too long, whatever was tried; none that an operator holds up."""
    undecided: tuple[Undecided, ...] = ()
    """Series that wait for nothing, and have not been decided on for too long."""
    without_origin: tuple[RowsWithoutOrigin, ...] = ()
    missing_origins: tuple[MissingOrigin, ...] = ()
    unrecorded: tuple[str, ...] = ()
    """Studies that have finished and have no decision record of that."""
    rowless: int = 0
    """Received images that should have a row by now."""
    missing_copies: int = 0
    """Files that should have a second copy by now."""

    def between(self, start: float, end: float, known: Collection[tuple[str, str]]) -> AccountRows:
        """Of the series whose first image came in [``start``, ``end``): every series belongs to one day.

        A refused image whose series is not among ``known`` belongs to the day when it was refused.
        """
        chosen = tuple(s for s in self.series if start <= s.first_at < end)
        keys = {(s.study_instance_uid, s.series_instance_uid) for s in chosen}
        jobs = tuple(j for j in self.jobs if (j.study_instance_uid, j.series_instance_uid) in keys)
        ids = {j.id for j in jobs}
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
            excluded=tuple(e for e in self.excluded if (e.study_instance_uid, e.series_instance_uid) in keys),
            refused=tuple(
                r
                for r in self.refused
                if ((r.study_instance_uid, r.series_instance_uid) in keys)
                or (start <= r.at < end and (r.study_instance_uid, r.series_instance_uid) not in known)
            ),
            stuck=tuple(j for j in self.stuck if j.id in ids),
            undecided=tuple(u for u in self.undecided if (u.study_instance_uid, u.series_instance_uid) in keys),
        )


@dataclass(frozen=True)
class AccountReader:
    """Reads the ledger some series at a time: memory does not grow with their number."""

    engine: sa.Engine
    spool: Spool | None
    queue_minutes: float
    with_records: bool = False

    def portions(self, period: tuple[float, float] | None = None) -> Iterator[AccountRows]:
        """Every study in one portion, all of one moment; the last portion has what belongs to no series.

        ``period``: of the series whose first image came in it, in seconds since 1970 UTC. What belongs to nothing is
        then looked for in their studies only. Images are counted by the database, everything else is a few rows per
        series. No statement reads a large table as a whole: none takes longer in a larger ledger.
        """
        rowless = self.spool.drafts.without_row(ROWLESS_SECONDS) if self.spool is not None else 0
        with snapshot(self.engine) as connection:
            at = ledger_clock(connection)
            exceptions, origins = _StudyRows(connection, at - self.queue_minutes * 60), Origins()
            unrecorded: list[str] = []
            for of_studies in studies_at_once(connection, ROWS_AT_ONCE, period):
                images = image_counts(connection, of_studies)
                series = account_series(connection, of_studies, images)
                jobs = jobs_of_studies(connection, of_studies)
                origins.add_of_studies(series, images, jobs)
                if period:
                    origins.add_answers(connection, job_ids_of(of_studies))
                if self.with_records:
                    unrecorded += _unrecorded(connection, at, of_studies)
                studies = {s.study_instance_uid for s in series}
                jobs = [j for j in jobs if j.study_instance_uid in studies]  # others are in no sum
                ids = {j.id for j in jobs}
                rows = AccountRows(
                    series=series,
                    jobs=tuple(jobs),
                    results=tuple(r for r in account_results(connection, of_studies) if r.job_id in ids),
                    deliveries=tuple(d for d in deliveries_of_studies(connection, of_studies) if d.job_id in ids),
                    **exceptions.take(studies),
                )
                yield rows.between(*period, _keys(series)) if period else rows
            for of_jobs in () if period else jobs_at_once(connection, ROWS_AT_ONCE):
                origins.add_of_jobs(connection, of_jobs)
            others = exceptions.studies()
            rest = AccountRows(
                without_origin=origins.rows,
                missing_origins=origins.missing,
                unrecorded=tuple(unrecorded),
                missing_copies=_missing_copies(connection, at),
                rowless=rowless,
                **exceptions.take(others),
            )
            yield rest.between(*period, _keys(series_of_studies(connection, others))) if period else rest


def _keys(series: Sequence[Series]) -> set[tuple[str, str]]:
    return {(s.study_instance_uid, s.series_instance_uid) for s in series}


def _missing_copies(connection: sa.Connection, at: float) -> int:
    missing = count_missing_copies(connection)
    return missing.files if at - missing.since > COPY_SECONDS else 0


class _StudyRows:
    """What few studies have, read at once and handed out by study."""

    def __init__(self, connection: sa.Connection, before: float) -> None:
        self._rows: dict[str, dict[str, list[Any]]] = {}
        for name, rows in (
            ("conflicts", all_conflicts(connection)),
            ("outdated", outdated_deliveries(connection)),
            ("half_corrected", half_corrected(connection)),
            ("held", held(connection)),
            ("excluded", excluded_images(connection)),
            ("refused", refusals(connection)),
            ("stuck", stuck_jobs(connection, before)),
            ("undecided", undecided_series(connection, before)),
        ):
            for row in rows:
                self._rows.setdefault(row.study_instance_uid, {}).setdefault(name, []).append(row)

    def studies(self) -> list[str]:
        """Those of which nothing was taken yet."""
        return list(self._rows)

    def take(self, studies: Collection[str]) -> dict[str, Any]:
        """Fields of ``AccountRows``, once."""
        fields: dict[str, list[Any]] = {}
        for study in studies:
            for name, rows in self._rows.pop(study, {}).items():
                fields.setdefault(name, []).extend(rows)
        return {name: tuple(rows) for name, rows in fields.items()}


def _unrecorded(connection: sa.Connection, at: float, of_studies: KeyCondition) -> list[str]:
    waiting = unrecorded_studies(connection, at - RECORD_SECONDS, of_studies)
    return [uid for uid in waiting if not is_recorded(connection, uid, study_state(connection, uid))]


def read(
    engine: sa.Engine,
    spool: Spool | None = None,
    *,
    queue_minutes: float = QUEUE_MINUTES,
    with_records: bool = False,
) -> AccountReader:
    """Return a reader of the ledger.

    ``spool``: where received images without a row are looked for. A job without progress, or a series
    without a decision, for ``queue_minutes`` is stuck. ``with_records``: every finished study has a decision record.
    """
    return AccountReader(engine, spool, queue_minutes, with_records)

"""The rows that the account is made of, all of one moment, as values of some studies at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from node.ledger.account_rows import (
    AccountResult,
    AccountSeries,
    MissingOrigin,
    RowsWithoutOrigin,
    account_results,
    account_series,
    missing_origins,
    rows_without_origin,
    study_portions,
)
from node.ledger.clock import ledger_clock
from node.ledger.conflicts import ConflictRecord, all_conflicts
from node.ledger.corrections import HalfCorrected, Outdated, half_corrected, outdated_deliveries
from node.ledger.decision_records import unrecorded_studies
from node.ledger.engine import snapshot
from node.ledger.excluded_images import ExcludedImage, excluded_images
from node.ledger.held_series import Held, held
from node.ledger.jobs import Job, jobs_of
from node.ledger.missing_copies import count_missing_copies
from node.ledger.pending_attempts import stuck_jobs
from node.ledger.pending_deliveries import DeliveryStatus, deliveries_of_studies
from node.ledger.series import series_of_studies
from node.ledger.study_record import study_state
from node.ledger.undecided import Undecided, undecided_series
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
_STUDIES_AT_ONCE = 400


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
    """Reads the ledger some studies at a time: memory does not grow with their number."""

    engine: sa.Engine
    spool: Spool | None
    queue_minutes: float
    with_records: bool = False

    def portions(self, period: tuple[float, float] | None = None) -> Iterator[AccountRows]:
        """Every study in one portion, all of one moment; the last portion has what belongs to no series.

        ``period``: of the series whose first image came in it, in seconds since 1970 UTC. Images are counted by the
        database, everything else is a few rows per series.
        """
        with snapshot(self.engine) as connection:
            exceptions = _StudyRows(connection, ledger_clock(connection) - self.queue_minutes * 60)
            for studies in study_portions(connection, _STUDIES_AT_ONCE, period):
                rows = AccountRows(
                    series=account_series(connection, studies),
                    jobs=tuple(jobs_of(connection, studies)),
                    results=account_results(connection, studies),
                    deliveries=tuple(deliveries_of_studies(connection, studies)),
                    **exceptions.take(studies),
                )
                known = {(s.study_instance_uid, s.series_instance_uid) for s in rows.series}
                yield rows.between(*period, known) if period else rows
            others = exceptions.studies()
            rest = AccountRows(
                without_origin=rows_without_origin(connection),
                missing_origins=missing_origins(connection),
                unrecorded=_unrecorded(connection) if self.with_records else (),
                missing_copies=_missing_copies(connection),
                rowless=self.spool.drafts.without_row(ROWLESS_SECONDS) if self.spool is not None else 0,
                **exceptions.take(others),
            )
            known = {(s.study_instance_uid, s.series_instance_uid) for s in series_of_studies(connection, others)}
            yield rest.between(*period, known) if period else rest


def _missing_copies(connection: sa.Connection) -> int:
    missing = count_missing_copies(connection)
    return missing.files if ledger_clock(connection) - missing.since > COPY_SECONDS else 0


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


def _unrecorded(connection: sa.Connection) -> tuple[str, ...]:
    waiting = unrecorded_studies(connection, ledger_clock(connection) - RECORD_SECONDS)
    return tuple(uid for uid in waiting if not is_recorded(connection, uid, study_state(connection, uid)))


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

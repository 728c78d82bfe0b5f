"""What belongs to nothing: images without a series, jobs without theirs, and what has no job or object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from node.ledger.account_rows import AccountSeries
from node.ledger.jobs import Job
from node.ledger.key_ranges import KeyCondition
from node.ledger.missing_origins import (
    MissingOrigin,
    RowsWithoutOrigin,
    answers_without_object,
    deliveries_without_job,
    results_without_job,
)


@dataclass
class Origins:
    """Rows whose origin has none, collected some studies or jobs at a time."""

    _images: list[RowsWithoutOrigin] = field(default_factory=list)
    _answers: list[RowsWithoutOrigin] = field(default_factory=list)
    _jobs: list[MissingOrigin] = field(default_factory=list)
    _results: list[MissingOrigin] = field(default_factory=list)
    _deliveries: list[MissingOrigin] = field(default_factory=list)

    @property
    def rows(self) -> tuple[RowsWithoutOrigin, ...]:
        """Images, then answers."""
        return (*self._images, *self._answers)

    @property
    def missing(self) -> tuple[MissingOrigin, ...]:
        """Of jobs, then of results, then of deliveries."""
        return (*self._jobs, *self._results, *self._deliveries)

    def add_of_studies(
        self, series: Sequence[AccountSeries], images: Mapping[tuple[str, str], int], jobs: Sequence[Job]
    ) -> None:
        """Compare the series of some studies with what the images and the jobs of these studies name as theirs."""
        keys = {(row.study_instance_uid, row.series_instance_uid) for row in series}
        self._images += [
            RowsWithoutOrigin(of=f"images of series {uid}, study {study}", rows=rows)
            for (study, uid), rows in images.items()
            if (study, uid) not in keys
        ]
        self._jobs += [
            MissingOrigin(what=f"job {job.id}", origin=f"series {job.series_instance_uid}")
            for job in jobs
            if (job.study_instance_uid, job.series_instance_uid) not in keys
        ]

    def add_answers(self, connection: sa.Connection, of_jobs: KeyCondition) -> None:
        """Look for answers to objects of some jobs that have no row."""
        self._answers += answers_without_object(connection, of_jobs)

    def add_of_jobs(self, connection: sa.Connection, of_jobs: KeyCondition) -> None:
        """Look for rows that name a job which has none, or an object."""
        self._results += results_without_job(connection, of_jobs)
        self._deliveries += deliveries_without_job(connection, of_jobs)
        self.add_answers(connection, of_jobs)

"""Results that come back from a destination which gets images under pseudonyms: the series that they are about.

The Study Instance UID of such results is the pseudonym of a study, which nobody can make who did not get it. They are
not analysed themselves: a job on each series that was sent, and that a part of them is about, reads this part.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine

from node.config import Config
from node.deidentify.key import deidentify_key
from node.deidentify.pseudonyms import Pseudonyms
from node.deidentify.sent_study import frames_of_reference
from node.errors import NotFoundError
from node.ledger.jobs import NewJob, get_job
from node.ledger.returned_results import SentSeries, came_before_reading, last_arrival_of_others, series_sent_to
from node.ledger.series import Series
from node.ledger.states import PRIORITIES
from node.reasons import Reason, ReasonCode, reason
from node.result_parts import ResultReferences
from node.routing.completeness import Deferral
from node.routing.series_examination import SeriesDecision, ignored
from node.spool import Spool

_QUIET_PERIODS = 3
"""For which others of a study are awaited."""
_MADE_UIDS = "2.25."
"""Root of all pseudonyms of UIDs."""


@dataclass(frozen=True, kw_only=True)
class ReturnedDecision(SeriesDecision):
    """That a series is a result which comes back."""

    jobs: tuple[NewJob, ...]
    """Which are new, on the series that it is about."""


class ReturnedRoutes:
    """Decides on results that come back."""

    def __init__(self, config: Config, engine: Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool

    def decision(
        self, study_uid: str, series_uid: str, references: Collection[ResultReferences]
    ) -> SeriesDecision | None:
        """Return the decision on a series with its jobs; ``None`` for what is no pseudonym of a study that was sent.

        ``references``: what its objects name. Raises as ``deidentify_key``.
        """
        if not study_uid.startswith(_MADE_UIDS):
            return None
        for pipeline, source in self._config.returned.items():
            pseudonym = Pseudonyms(deidentify_key(self._config, self._engine), source).uid
            with self._engine.connect() as connection:
                sent = series_sent_to(connection, source)
            of_study = [series for series in sent if pseudonym(series.study_instance_uid) == study_uid]
            if of_study:
                names = {pseudonym(series.series_instance_uid): series for series in of_study}
                named = {uid for reference in references for uid in reference.series if uid in names}
                looked_at = of_study if len(named) > 1 else [names[uid] for uid in named]
                frames = frames_of_reference(self._engine, self._spool, looked_at, pseudonym)
                parts = [reference.series_of(part, frames) for reference in references for part in reference.parts]
                jobs = [self._job(pipeline, source, of) for uid, of in names.items() if uid in parts]
                if not jobs:
                    return ignored(reason(ReasonCode.RETURNED_ABOUT_OTHERS, destination=source, number=len(named)))
                known = reason(
                    ReasonCode.RETURNED,
                    destination=source,
                    jobs=[job.id for job in jobs],
                    series=[names[uid].series_instance_uid for uid in sorted(named)],
                    unread=parts.count(""),
                )
                return self._read_by(jobs, known, of=(study_uid, series_uid))
        return None

    def wait_for_others(self, result: Series, at: float) -> Deferral | None:
        """Return until when a result waits for others of its study; ``None`` when none is arriving.

        A SEG and the SR that belongs to it are two series. Both are complete as soon as the whole study is quiet.
        """
        seconds = self._config.series.quiet_seconds
        with self._engine.connect() as connection:
            last = last_arrival_of_others(connection, result.study_instance_uid, result.series_instance_uid)
        if last is None:
            return None
        until = min(last + seconds, result.last_at + _QUIET_PERIODS * seconds)
        wait = Deferral(about=reason(ReasonCode.RETURNED_AWAITED), seconds=seconds, until=until)
        return wait if at < until else None

    def _job(self, pipeline: str, source: str, about: SentSeries) -> NewJob:
        return NewJob(
            study_instance_uid=about.study_instance_uid,
            series_instance_uid=about.series_instance_uid,
            generation=about.generation,
            pipeline=pipeline,
            rule=f"returned from {source}",
            destinations=self._config.destinations[source].results_to,
            priority=PRIORITIES["medium"],
        )

    def _read_by(self, jobs: Collection[NewJob], known: Reason, of: tuple[str, str]) -> SeriesDecision:
        """Decide on a series that came back; what is late for a job is not read by it before it is retried."""
        new, late = [], []
        with self._engine.connect() as connection:
            for job in jobs:
                try:
                    get_job(connection, job.id)
                except NotFoundError:
                    new.append(job)
                    continue
                if not came_before_reading(connection, *of, job.id):  # by its analysis, which waits for what arrives
                    late.append(job.id)
        why = {**known, "code": ReasonCode.RETURNED_LATER, "late": late} if late else known
        return ReturnedDecision(decision=ignored(why).decision, jobs=tuple(new))

"""Results that come back from a destination which gets images under pseudonyms: the series that they are about.

The Study Instance UID of such results is the pseudonym of a study, which nobody can make who did not get it. They are
not analysed themselves: a job on the series that was sent reads them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine

from node.config import Config
from node.deidentify.key import deidentify_key
from node.deidentify.pseudonyms import Pseudonyms
from node.errors import NotFoundError
from node.ledger.jobs import NewJob, get_job
from node.ledger.returned_results import SentSeries, came_before_reading, last_arrival_of_others, series_sent_to
from node.ledger.series import Series
from node.ledger.states import PRIORITIES
from node.reasons import ReasonCode, reason
from node.routing.completeness import Deferral
from node.routing.series_examination import SeriesDecision, ignored

_QUIET_PERIODS = 3
"""For which others of a study are awaited."""
_MADE_UIDS = "2.25."
"""Root of all pseudonyms of UIDs."""


@dataclass(frozen=True, kw_only=True)
class ReturnedDecision(SeriesDecision):
    """That a series is a result which comes back."""

    job: NewJob
    """On the series that it is about."""


class ReturnedRoutes:
    """Decides on results that come back."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._engine = engine

    def decision(self, study_uid: str, series_uid: str, references: Collection[str]) -> SeriesDecision | None:
        """Return the decision on a series with its job; ``None`` for what is no pseudonym of a study that was sent.

        ``references``: Series Instance UIDs that its objects are about. Raises as ``deidentify_key``.
        """
        if not study_uid.startswith(_MADE_UIDS):
            return None
        for pipeline, source in self._config.returned.items():
            pseudonym = Pseudonyms(deidentify_key(self._config, self._engine), source).uid
            with self._engine.connect() as connection:
                sent = series_sent_to(connection, source)
            of_study = [one for one in sent if pseudonym(one.study_instance_uid) == study_uid]
            if of_study:
                about = [one for one in of_study if pseudonym(one.series_instance_uid) in references]
                return self._about(pipeline, source, about, of=(study_uid, series_uid))
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

    def _about(self, pipeline: str, source: str, about: Collection[SentSeries], of: tuple[str, str]) -> SeriesDecision:
        if len(about) != 1:
            return ignored(reason(ReasonCode.RETURNED_ABOUT_OTHERS, destination=source, number=len(about)))
        (one,) = about
        new = NewJob(
            study_instance_uid=one.study_instance_uid,
            series_instance_uid=one.series_instance_uid,
            generation=one.generation,
            pipeline=pipeline,
            rule=f"returned from {source}",
            destinations=self._config.destinations[source].results_to,
            priority=PRIORITIES["medium"],
        )
        try:
            with self._engine.connect() as connection:
                get_job(connection, new.id)
                is_read = came_before_reading(connection, *of, new.id)  # by its analysis, which waits for what arrives
        except NotFoundError:
            why = reason(ReasonCode.RETURNED, destination=source, job=new.id)
            return ReturnedDecision(decision=ignored(why).decision, job=new)
        if is_read:
            return ignored(reason(ReasonCode.RETURNED, destination=source, job=new.id))
        return ignored(reason(ReasonCode.RETURNED_LATER, destination=source, job=new.id))

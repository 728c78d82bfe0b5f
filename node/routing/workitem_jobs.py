"""Requests for analyses become jobs: as soon as the series is complete, in the transaction that makes the job."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection, Engine

from node.actor import surviving
from node.config import Config, Procedure
from node.errors import NodeError, NotFoundError
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Job, NewJob, get_job
from node.ledger.series import Series
from node.ledger.states import PRIORITIES, JobState, SeriesState
from node.ledger.workitems import (
    BY_REQUEST,
    Workitem,
    answer_cancellation,
    end_workitem,
    get_workitem,
    part_from_job,
    pending_workitems,
    take_workitem,
    unwanted_workitems,
)
from node.log import about
from node.outcome import Outcome
from node.reasons import Reason, ReasonCode, reason
from node.routing.prerequisites import with_prerequisites
from node.routing.rules import Route
from node.routing.study_decisions import Responsible
from node.workitems.requested_series import requested_series

logger = logging.getLogger(__name__)


class WorkitemJobs:
    """Work of the router. Of two routers, one takes a request."""

    def __init__(self, config: Config, engine: Engine, jobs: Jobs, is_responsible: Responsible) -> None:
        self._config = config
        self._engine = engine
        self._jobs = jobs
        self._is_responsible = is_responsible

    def step(self) -> int:
        """Make the jobs of pending requests whose series are complete; return how many. Cancel what is unwanted."""
        with self._engine.connect() as connection:
            unwanted = unwanted_workitems(connection)
        for workitem in unwanted:
            with about(workitem.study_instance_uid), surviving(f"router: workitem {workitem.uid}"):
                self._cancel(workitem)
        with self._engine.connect() as connection:
            pending = [
                workitem
                for workitem in pending_workitems(connection)
                if self._is_responsible(workitem.study_instance_uid)
            ]
        jobs = 0
        for workitem in pending:
            with about(workitem.study_instance_uid), surviving(f"router: workitem {workitem.uid}"):
                jobs += self._take(workitem)
        return jobs

    def _cancel(self, of: Workitem) -> None:
        """End a request, or its job; a process that is killed in between does it again."""
        why = reason(ReasonCode.CANCELLED, operator=of.cancel_by)
        with begin_immediate(self._engine) as connection:
            end_workitem(connection, of.uid, why)
            now = get_workitem(connection, of.uid)
        if now is not None and now.job_id is not None:
            try:
                self._jobs.cancel(now.job_id, of.cancel_by or "")
            except NodeError as error:  # it has ended meanwhile
                logger.info("workitem %s: %s", of.uid, error)
        with begin_immediate(self._engine) as connection:
            answer_cancellation(connection, of.uid)

    def _take(self, of: Workitem) -> bool:
        try:
            with begin_immediate(self._engine) as connection:
                job_id = self._taken(connection, of)
        except NodeError as error:
            logger.warning("workitem %s: %s", of.uid, error)
            with begin_immediate(self._engine) as connection:
                return end_workitem(connection, of.uid, reason(ReasonCode.ERROR, explanation=str(error)))
        if job_id:
            logger.info("workitem %s of %s: job %s", of.uid, of.requester, job_id)
        return bool(job_id)

    def _taken(self, connection: Connection, of: Workitem) -> str:
        """Return the job of a request; empty: it has to wait, or does not wait any more. Raises ``NodeError``."""
        procedure = self._config.procedures.get(of.procedure)
        if procedure is None:
            raise NotFoundError(f"[procedures.{of.procedure}] is not configured any more")
        series = requested_series(connection, of.study_instance_uid, of.series_instance_uid, procedure.pipeline)
        if series is None or series.state != SeriesState.COMPLETE:
            return ""
        new = self._jobs_of(series, procedure, of)
        if not take_workitem(connection, of.uid, series.series_instance_uid, new[-1].id):
            return ""
        is_new = [self._jobs.enqueue(connection, job) for job in new][-1]
        if not is_new and (why := _came_to_nothing(get_job(connection, new[-1].id))):
            part_from_job(connection, new[-1].id, why, besides=of.uid)
            self._jobs.retry_within(connection, new[-1].id)
        return new[-1].id

    def _jobs_of(self, series: Series, procedure: Procedure, of: Workitem) -> list[NewJob]:
        """The job of a request, after those whose results it needs."""
        wanted = Route(
            pipeline=procedure.pipeline,
            rule=f"{BY_REQUEST}{of.procedure}",
            destinations=procedure.destinations,
            priority=PRIORITIES[procedure.priority or of.requested.priority.lower()],
        )
        return [
            NewJob(
                study_instance_uid=series.study_instance_uid,
                series_instance_uid=series.series_instance_uid,
                generation=series.generation,
                **asdict(route),
            )
            for route in with_prerequisites([wanted], self._config)
        ]


def _came_to_nothing(of: Job) -> Reason | None:
    """Why a job ended without an analysis; ``None``: it has one, or goes on."""
    if of.state == JobState.CANCELED or (of.state == JobState.COMPLETED and of.outcome == Outcome.FAILED):
        return of.reason if isinstance(of.reason, Mapping) else reason(ReasonCode.STATED, text=of.reason or "")
    return None

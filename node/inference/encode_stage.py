"""The stage encode: has the handover of a pipeline turned into DICOM objects that pass the gate.

``node.results.encode`` makes the objects; ``node.inference.encode_and_check`` decides what is withheld or reported as
failed. This module says which kinds are wanted, and what is stored when that process fails.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from node.config import DEFAULT_OBJECTS, Config
from node.config.escalation import MeasurementLimit, parse_limit
from node.errors import AbsentFileError, IdentityError, NotFoundError, PlatformError
from node.inference.encode_process import EncodeProcess, Row
from node.inference.encode_task import EncodedEmbeddings, EncodeTask, Encoding, ImageFile, PreviousFiles
from node.inference.node_secret import secret_of
from node.inference.similar_entries import similar_entries
from node.inference.task import FINDINGS
from node.inference.tested_version import acceptance_refusal
from node.jobs.failure import logged_error
from node.jobs.stage import AttemptYielded, Done, Stage, retries
from node.ledger import JobStage
from node.ledger.copying import infer_again
from node.ledger.embeddings import LesionEmbedding, NewSpace, delete_embeddings, record_embeddings
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind, record_event
from node.ledger.holdings import purge_holdings
from node.ledger.job_outcome import escalate, record_outcome, record_results, schedule_results
from node.ledger.jobs import Job, get_job, source_images
from node.ledger.missing_copies import record_results_held
from node.ledger.previous_results import PreviousResult, previous_results
from node.ledger.replaced_results import to_withdraw
from node.ledger.shadow import stays_in_shadow
from node.ledger.states import ShadowCause
from node.outcome import ANALYSED, Outcome
from node.process.idle_time import IdleTime
from node.reasons import Reason, ReasonCode, reason, reason_text
from node.similar.findings import SimilarSearch
from node.spool import Spool
from node.translation import in_every_language

logger = logging.getLogger(__name__)

_CALLS = 2
"""Of the encoder in one attempt: the report of a failure may be made in a second one."""
_ATTEMPTS_TO_FETCH = 6
"""Before a job is inferred again whose handover cannot be fetched: five minutes with the default delays."""
_STORING_SECONDS = 600.0
"""For what an attempt does besides: it copies the objects, and waits for the ledger."""


class Encode:
    """Encodes handovers as DICOM objects that pass the gate, and schedules their deliveries."""

    def __init__(self, config: Config, engine: Engine, spool: Spool, idle_time: IdleTime | None = None) -> None:
        """``idle_time``: of this process, in which jobs in shadow are encoded."""
        self._config = config
        self._engine = engine
        self._spool = spool
        self._salt = secret_of(engine, spool.folder)
        self._search = SimilarSearch()
        self._idle_time = idle_time or IdleTime()
        self._encoder = EncodeProcess(spool, config.jobs.encode_timeout_seconds)
        self.prepare = self._encoder.prepare
        """For jobs that are inferred now and encoded here next."""
        self._shadow_encoder = EncodeProcess(spool, config.jobs.encode_timeout_seconds, when_idle=self._idle_time)

    def stage(self) -> Stage:
        """Return the stage for the engine."""
        return Stage(
            name=JobStage.ENCODE,
            handler=self.encode,
            retries=retries(self._config.jobs),
            seconds=_CALLS * self._config.jobs.encode_timeout_seconds + _STORING_SECONDS,
            owners=tuple(self._config.pipelines),
            begin=self.sweep,
            takes_shadow=lambda: not self._idle_time.is_taken,
            paused_seconds=self._idle_time.taken_seconds,
            withdraw_shadow=self._withdraw_shadow,
            interrupt=self._interrupt,
        )

    def encode(self, job_id: str, _subject: str) -> Done:
        """Handler: every object is on disk before its row is written, every row before anything is sent.

        The report of a failure is made of UIDs and identity alone when nothing better can be made.
        """
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
            task = self._task(connection, job)
        if job.shadow != ShadowCause.TRIAL:
            with self._idle_time.taken():
                return self._encoded(job, task)
        withdrawals = self._idle_time.withdrawals
        try:
            return self._encoded(job, task)
        except PlatformError as error:
            if self._idle_time.withdrawals == withdrawals:
                raise
            raise AttemptYielded(f"job {job_id} in shadow ends with its worker") from error

    def _encoded(self, job: Job, task: EncodeTask) -> Done:
        self._fetch_handover(job)
        try:
            encoding, rows = self._encoder_of(job).analysis(self._with_similar(job, task))
        except (IdentityError, SQLAlchemyError):
            raise
        except Exception as error:
            if job.outcome != Outcome.FAILED:
                raise
            logger.warning("job %s: report of UIDs and identity only: %s", job.id, error, exc_info=logged_error(error))
            encoding, rows = self._encoder_of(job).failure(task)
        return self._done(job, encoding, rows)

    def _encoder_of(self, job: Job) -> EncodeProcess:
        return self._shadow_encoder if job.shadow == ShadowCause.TRIAL else self._encoder

    def _withdraw_shadow(self) -> None:
        self._idle_time.withdraw()
        self._shadow_encoder.interrupt()

    def _interrupt(self) -> None:
        self._encoder.interrupt()
        self._shadow_encoder.interrupt()

    def _fetch_handover(self, job: Job) -> None:
        """Fetch what infer left on another machine; when that machine stays away, have the job inferred again."""
        try:
            self._spool.fetch_work(job.id, FINDINGS)
        except AbsentFileError:
            if job.attempt >= _ATTEMPTS_TO_FETCH:
                with begin_immediate(self._engine) as connection:
                    infer_again(connection, job.id)
            raise

    def _task(self, connection: Connection, job: Job) -> EncodeTask:
        kinds = self._kinds(job)
        images = list(source_images(connection, job))
        files = self._spool.all_readable(image.path for image in images)
        return EncodeTask(
            job_id=job.id,
            study_instance_uid=job.study_instance_uid,
            series_instance_uid=job.series_instance_uid,
            images=tuple(
                ImageFile(
                    path=file,
                    sop_class_uid=image.sop_class_uid,
                    sop_instance_uid=image.sop_instance_uid,
                    modality=image.modality,
                )
                for image, file in zip(images, files, strict=True)
            ),
            pipeline=job.pipeline,
            title=self._config.title(job.pipeline),
            generation=job.generation,
            outcome=job.outcome or "",
            reason=in_every_language(lambda: reason_text(job.reason)),
            incomplete=in_every_language(lambda: reason_text(job.incomplete)),
            caveat=in_every_language(lambda: reason_text(job.caveat)),
            created_at=job.created_at,
            salt=self._salt,
            kinds=self._wanted(job),
            profiles=tuple(kinds.values()),
            languages=self._config.languages(job.destinations),
            limits=self._limits(job),
            link=self._config.web.study_link(job.study_instance_uid),
            embeddings=self._has_similar(job),
            previous=tuple(map(self._previous, previous_results(connection, job))),
            handover=self._spool.work(job.id),
            out=self._spool.work(job.id),
        )

    def _limits(self, job: Job) -> tuple[MeasurementLimit, ...]:
        """Limits of the rule by which the job was made, as it is configured now."""
        limits = next((rule.escalate for rule in self._config.rules if rule.name == job.rule), ())
        return tuple(map(parse_limit, limits))

    def _previous(self, result: PreviousResult) -> PreviousFiles:
        files = dict(zip(result.paths, self._spool.all_readable(result.paths.values()), strict=True))
        return PreviousFiles(
            analysis=result.analysis,
            version=result.version,
            replaces=result.replaces,
            paths={kind: file for kind, file in files.items() if file.exists()},
        )

    def _done(self, job: Job, encoding: Encoding, rows: list[Row]) -> Done:
        job_id = job.id
        if encoding.repairs:
            repairs = "; ".join(encoding.repairs)
            logger.info("job %s: headers of series %s: %s", job_id, job.series_instance_uid, repairs)
        kinds = {str(row["kind"]) for row in rows if row["quarantine"] is None}
        logger.info("job %s: %d objects encoded, %s", job_id, len(rows), encoding.outcome)

        def write(connection: Connection) -> None:
            record_results(connection, job_id, rows)
            paths = [str(row["path"]) for row in rows]
            record_results_held(connection, self._spool.machine, self._spool.copies, paths)
            self._record_embeddings(connection, job, encoding.embeddings)
            purge_holdings(connection, [f"work/{job_id}"])
            if (refused := encoding.refused) is not None:
                record_event(
                    connection,
                    job_id,
                    EventKind.RESULTS_REFUSED,
                    stage=JobStage.ENCODE,
                    error_code=refused.code,
                    error=refused.message,
                )
            for withheld, why in encoding.withheld:
                error: dict[str, Any] = {} if why is None else {"error_code": why.code, "error": why.message}
                record_event(connection, job_id, EventKind.OBJECTS_WITHHELD, kinds=withheld, **error)
            if refused is not None and encoding.outcome != job.outcome:
                failure = reason(ReasonCode.NOT_ANALYSED, error_code=refused.code, job=job_id)
                record_outcome(connection, job_id, encoding.outcome, failure)
            if not stays_in_shadow(connection, job, self._refusal(connection, job)):
                measurement = encoding.urgent
                urgent = None if measurement is None else reason(ReasonCode.URGENT, **asdict(measurement))
                escalate(connection, job_id, urgent)
                to = self._kinds_by_destination(connection, job, encoding.outcome, kinds)
                schedule_results(connection, job_id, to)

        return Done(write=write, then=lambda: shutil.rmtree(self._spool.work(job_id), ignore_errors=True))

    def _with_similar(self, job: Job, task: EncodeTask) -> EncodeTask:
        """The task with similar earlier findings, where the PDF report lists them."""
        table = self._config.pipelines.get(job.pipeline)
        if table is None or not table.similar_in_pdf or "pdf" not in task.kinds or job.outcome not in ANALYSED:
            return task
        try:
            embeddings = self._encoder_of(job).embeddings(task)
            if embeddings is None:
                return task
            with self._engine.connect() as connection:
                return replace(task, similar=similar_entries(connection, self._search, job, embeddings))
        except Exception as error:  # the list is an extra, and keeps no result back
            logger.warning("job %s: its report has no similar findings: %s", job.id, error, exc_info=error)
            return task

    def _has_similar(self, job: Job) -> bool:
        table = self._config.pipelines.get(job.pipeline)
        return table is not None and table.similar_findings

    def _record_embeddings(self, connection: Connection, job: Job, embeddings: EncodedEmbeddings | None) -> None:
        """Replace the embeddings of the job: a repeated encoding may be of other findings."""
        if embeddings is None:
            delete_embeddings(connection, job.id)
            return
        space = NewSpace(name=embeddings.space, dimensions=embeddings.dimensions, statement=embeddings.statement)
        record_embeddings(connection, job, space, [LesionEmbedding(**vars(lesion)) for lesion in embeddings.lesions])

    def _refusal(self, connection: Connection, job: Job) -> Reason | None:
        """Why the report of a failure must not be sent; infer has decided on all others."""
        table = self._config.pipelines.get(job.pipeline)
        if table is None or job.outcome != Outcome.FAILED:
            return None
        return acceptance_refusal(connection, job.pipeline, table, None)

    def _kinds(self, job: Job) -> dict[str, frozenset[str]]:
        """Kinds of objects that each destination of the job takes."""
        return {name: self._config.kinds(name) for name in job.destinations}

    def _wanted(self, job: Job) -> frozenset[str]:
        """Kinds that any of them takes; a job without a destination makes the usual ones.

        A segmentation is made for pipelines that need the result, also when no destination takes it.
        """
        kinds = self._kinds(job)
        needed = {"seg"} if any(table.after == job.pipeline for table in self._config.pipelines.values()) else ()
        return frozenset(needed).union(*kinds.values()) if kinds else frozenset(DEFAULT_OBJECTS)

    def _kinds_by_destination(
        self, connection: Connection, job: Job, outcome: str, made: Collection[str]
    ) -> dict[str, frozenset[str]]:
        """Kinds of objects by destination: of those that want the outcome, or hold a result that this one replaces."""
        return {
            name: of
            for name, of in self._kinds(job).items()
            if self._config.is_recipient(name, outcome, made)
            or (not of.isdisjoint(made) and to_withdraw(connection, job, name))
        }

    def sweep(self) -> None:
        """Remove the handovers of jobs that are past encode, left behind by a crash."""
        with self._engine.connect() as connection:
            for folder in (self._spool.folder / "work").iterdir():
                try:
                    needed = get_job(connection, folder.name).stage in (JobStage.INFER, JobStage.ENCODE)
                except NotFoundError:
                    needed = False
                if not needed:
                    shutil.rmtree(folder, ignore_errors=True)

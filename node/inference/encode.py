"""The stage encode: turns the handover of a pipeline into DICOM objects that pass the gate."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from node.config import DEFAULT_OBJECTS, Config
from node.config.routing import Outcome
from node.errors import EncodeError, IdentityError, InputError, NotFoundError, error_code, not_analysed
from node.inference.handover import Handover, load
from node.inference.node_secret import secret_of
from node.inference.result_storage import store_result
from node.jobs.failure import logged_error
from node.jobs.stage import Done, Stage, retries
from node.ledger import JobStage
from node.ledger.events import EventKind, record_event
from node.ledger.incomplete import outcome_of_incomplete
from node.ledger.jobs import Job, SourceImage, get_job, previous_results, source_images
from node.ledger.replaced_results import to_withdraw
from node.ledger.transitions import record_outcome, record_results, schedule_results
from node.pipeline import Algorithm
from node.results import ANALYSED, OPTIONAL, Analysis, EncodedObject, Predecessor, check, encode
from node.results.failure_report import encode_failure_reports, identity_of, stated_identity
from node.results.header_repairs import drop_unreadable, repairs_of
from node.results.identity import Identity
from node.results.predecessor import superseding
from node.results.uids import analysis_key
from node.spool import Spool
from node.studies.header import read_header
from node.studies.minimal_series import MinimalSeries, minimal_header
from node.studies.source import SourceSeries

logger = logging.getLogger(__name__)


class Encode:
    """Encodes handovers as DICOM objects that pass the gate, and schedules their deliveries."""

    def __init__(self, config: Config, engine: Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._salt = secret_of(engine, spool.folder)

    def stage(self) -> Stage:
        """Return the stage for the engine."""
        return Stage(
            name=JobStage.ENCODE,
            handler=self.encode,
            retries=retries(self._config.jobs),
            seconds=self._config.jobs.encode_timeout_seconds,
            begin=self.sweep,
        )

    def encode(self, job_id: str, _subject: str) -> Done:
        """Handler: every object is on disk before its row is written, every row before anything is sent.

        The report of a failure is made of UIDs and identity alone when nothing better can be made.
        """
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
            images = source_images(connection, job)
        try:
            return self._encode(job, [self._spool.absolute(image.path) for image in images])
        except (IdentityError, SQLAlchemyError):
            raise
        except Exception as error:
            if job.outcome != Outcome.FAILED:
                raise
            logger.warning("job %s: report of UIDs and identity only: %s", job_id, error, exc_info=logged_error(error))
            return self._failure_reports(job, images)

    def _encode(self, job: Job, paths: list[Path]) -> Done:
        job_id = job.id
        source = _readable_series(paths)
        if repairs := (*drop_unreadable(source), *repairs_of(source)):
            logger.info("job %s: headers of series %s: %s", job_id, source.series_instance_uid, "; ".join(repairs))
        analysis = self._analysis(job)
        rows, withheld, fault = self._encoded(job, analysis, source, self._wanted(job))
        refused = fault
        if fault is not None and analysis.outcome != Outcome.FAILED:
            logger.warning("job %s: encode failed: %s", job_id, fault, exc_info=logged_error(fault))
            _, reason = outcome_of_incomplete(Outcome.FAILED, not_analysed(fault, job_id), job.incomplete or "")
            analysis = replace(analysis, outcome=Outcome.FAILED, reason=reason, findings=None)
            more, withheld, fault = self._encoded(job, analysis, source, self._wanted(job))
            rows += more
        if fault is not None:
            raise EncodeError(f"the report of a failure was refused as well: {fault}") from fault
        kinds = {str(row["kind"]) for row in rows if row["quarantine"] is None}
        logger.info("job %s: %d objects encoded, %s", job_id, len(rows), analysis.outcome)

        def write(connection: Connection) -> None:
            record_results(connection, job_id, rows)
            if refused is not None:
                record_event(
                    connection,
                    job_id,
                    EventKind.RESULTS_REFUSED,
                    stage=JobStage.ENCODE,
                    error_code=error_code(refused),
                    error=str(refused),
                )
            for withheld_kinds, why in withheld:
                record_event(
                    connection,
                    job_id,
                    EventKind.OBJECTS_WITHHELD,
                    error_code=error_code(why),
                    kinds=withheld_kinds,
                    error=str(why),
                )
            if analysis.outcome != job.outcome:
                record_outcome(connection, job_id, analysis.outcome, analysis.reason)
            schedule_results(connection, job_id, self._kinds_by_destination(connection, job, analysis.outcome, kinds))

        return Done(write=write, then=lambda: shutil.rmtree(self._spool.work(job_id), ignore_errors=True))

    def _failure_reports(self, job: Job, images: Sequence[SourceImage]) -> Done:
        if not images:
            raise InputError(f"job {job.id}: its series has no image; send it again")
        study, series = job.study_instance_uid, job.series_instance_uid
        source = MinimalSeries(
            paths=tuple(self._spool.absolute(image.path) for image in images),
            datasets=tuple(
                minimal_header(
                    sop_class=image.sop_class_uid,
                    uid=image.sop_instance_uid,
                    study=study,
                    series=series,
                    modality=image.modality,
                )
                for image in images
            ),
        )
        analysis = self._analysis(job)
        stated = stated_identity(source.paths)
        objects = encode_failure_reports(analysis, source, self._wanted(job), stated)
        key = analysis_key(analysis, source, identity_of(stated))
        made_by = {"analysis": key, "version": analysis.version, "replaces": None}
        rows = [store_result(self._spool, job.id, one, None) | made_by for one in objects]
        kinds = {str(row["kind"]) for row in rows}

        def write(connection: Connection) -> None:
            record_results(connection, job.id, rows)
            record_event(connection, job.id, EventKind.OBJECTS_WITHHELD, kinds=[])
            schedule_results(connection, job.id, self._kinds_by_destination(connection, job, analysis.outcome, kinds))

        return Done(write=write, then=lambda: shutil.rmtree(self._spool.work(job.id), ignore_errors=True))

    def _kinds(self, job: Job) -> dict[str, frozenset[str]]:
        """Kinds of objects that each destination of the job takes."""
        return {name: self._config.kinds(name) for name in job.destinations}

    def _wanted(self, job: Job) -> frozenset[str]:
        """Kinds that any of them takes; a job without a destination makes the usual ones."""
        kinds = self._kinds(job)
        return frozenset().union(*kinds.values()) if kinds else frozenset(DEFAULT_OBJECTS)

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

    def _analysis(self, job: Job) -> Analysis:
        handover = self._handover(job)
        outcome: Any = job.outcome or Outcome.FAILED  # Analysis checks the word
        return Analysis(
            pipeline=job.pipeline,
            algorithm=handover.algorithm if handover else Algorithm(name=job.pipeline, version=""),
            generation=job.generation,
            outcome=outcome,
            title=self._config.title(job.pipeline),
            reason=job.reason or "",
            findings=handover.findings if handover and outcome in ANALYSED else None,
            analysed_at=handover.analysed_at if handover else datetime.fromtimestamp(job.created_at, UTC),
            timings=handover.timings if handover else {},
            inputs=handover.inputs if handover else (),
            salt=self._salt,
            caveat=job.caveat or "",
        )

    def _handover(self, job: Job) -> Handover | None:
        """Return the handover of the last attempt; after a failure there may be none."""
        try:
            return load(self._spool.work(job.id))
        except InputError:
            if job.outcome in ANALYSED:
                raise
            return None

    def _encoded(
        self, job: Job, analysis: Analysis, source: SourceSeries, kinds: frozenset[str]
    ) -> tuple[list[dict[str, object]], list[tuple[list[str], EncodeError]], EncodeError | None]:
        """Rows of the objects of one analysis, kept on disk; which were withheld and why; what is wrong with all.

        What is wrong is quarantined. One bad object of an optional kind is withheld with its kind, and the report made
        without it says so.
        """
        rows: list[dict[str, object]] = []
        withheld: list[tuple[list[str], EncodeError]] = []
        profiles = [*self._kinds(job).values()]
        while True:
            objects: tuple[EncodedObject, ...] = ()
            fault: EncodeError | None = None
            bad = kinds
            earlier = self._predecessor(job, analysis, source)
            analysis = superseding(analysis, earlier, Identity.read(source).local(analysis.analysed_at))
            made_by = {
                "analysis": analysis_key(analysis, source),
                "version": analysis.version,
                "replaces": earlier.made if earlier is not None else None,
            }
            try:
                objects = encode(analysis, source, kinds, earlier, profiles=profiles)
                check(objects, source, earlier)
            except EncodeError as error:
                fault, bad = error, error.kinds & kinds & OPTIONAL
            if fault is None or not bad:
                rows += [store_result(self._spool, job.id, o, str(fault) if fault else None) | made_by for o in objects]
                return rows, withheld, fault
            rows += [store_result(self._spool, job.id, o, str(fault)) | made_by for o in objects if o.kind in bad]
            logger.warning(
                "job %s: %s withheld: %s", job.id, ", ".join(sorted(bad)), fault, exc_info=logged_error(fault)
            )
            withheld.append((sorted(bad), fault))
            named = ", ".join(sorted(bad))
            sentence = (
                f"Not sent: {named}, which could not be made. Details are in the log of the AI node, job {job.id}."
            )
            analysis = replace(analysis, withheld=(*analysis.withheld, sentence))
            kinds -= bad

    def _predecessor(self, job: Job, analysis: Analysis, source: SourceSeries) -> Predecessor | None:
        """Return the predecessor: the result of an earlier attempt of the job, or of an earlier generation.

        A repeated encoding finds its own, and takes the place of what that one did.
        """
        with self._engine.connect() as connection:
            results = previous_results(connection, job)
        for one in results:
            files = {kind: self._spool.absolute(path) for kind, path in one.paths.items()}
            files = {kind: file for kind, file in files.items() if file.exists()}
            if one.analysis != analysis_key(replace(analysis, version=one.version), source):
                return Predecessor.read(files, one.version)
            if one.version > 1:
                return Predecessor.of_repeated(files, one.version, one.replaces)
        return None


def _readable_series(paths: list[Path]) -> SourceSeries:
    """The series without files that cannot be read: a result must be able to say that they cannot."""
    try:
        return SourceSeries.read(paths)
    except InputError:
        return SourceSeries.read([path for path in paths if _is_readable(path)])


def _is_readable(path: Path) -> bool:
    try:
        read_header(path)
    except InputError:
        return False
    return True

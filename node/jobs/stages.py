"""The stages of a job that this node executes itself: infer and encode. Deliver is ``node.deliver``'s."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset, dcmread

from node.config import DEFAULT_OBJECTS, Config, PriorTable
from node.errors import EncodeError, InputError, NodeError, NotFoundError
from node.jobs.child import Reply, Task
from node.jobs.engine import Done, Stage
from node.jobs.handover import Handover, load
from node.jobs.load import table_of
from node.jobs.worker import Unwanted, Worker, device_names, thread_count
from node.ledger.engine import now
from node.ledger.jobs import ENCODE, INFER, Job, Retries, earlier_results, get_job, is_active, source_paths
from node.ledger.operation import record_facts
from node.ledger.timeline import tell
from node.ledger.transitions import owe_results, record_outcome, record_results
from node.pipeline import Algorithm, Prior
from node.results import ANALYSED, OPTIONAL, Analysis, Earlier, EncodedObject, check, encode, report_uids
from node.results.prior import read_prior
from node.spool import Spool
from node.studies.source import SourceSeries, read_header

logger = logging.getLogger(__name__)


EarlierReports = Callable[[PriorTable, Dataset, Path], Generator[list[Path], None, None]]
"""Reports on earlier studies of the patient of a header, saved to a folder; ``node.deliver.prior.fetch_reports``."""


class Infer:
    """Runs pipelines, one at a time on each device."""

    def __init__(
        self, config: Config, engine: sa.Engine, spool: Spool, earlier_reports: EarlierReports | None = None
    ) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._earlier_reports = earlier_reports
        threads = thread_count(config.devices)
        self._workers = tuple(
            Worker(name, threads, config.jobs.run_timeout_seconds) for name in device_names(config.devices)
        )
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def stage(self) -> Stage:
        """As the engine executes it."""
        return Stage(
            name=INFER,
            handler=self.infer,
            retries=_retries(self._config),
            slots=len(self._workers),
            begin=self.warm,
            interrupt=self.close,
        )

    def warm(self) -> None:
        """Load every configured pipeline on every device in the background: the first job need not wait for it."""
        for _ in self._workers:
            threading.Thread(target=self._warm_one, name="warm", daemon=True).start()

    def infer(self, job_id: str, _subject: str) -> Done:
        """Handler: run the job's pipeline in a child process and leave the handover for encode."""
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
            paths = source_paths(connection, job)
            companions = {name: source_paths(connection, job, name) for name in job.companions}
        prior, without_prior = self._prior(job, paths)
        task = Task(
            job_id=job_id,
            pipeline=job.pipeline,
            table=table_of(job.pipeline, self._config.pipelines),
            paths=tuple(self._spool.absolute(path) for path in paths),
            companions={name: tuple(map(self._spool.absolute, of)) for name, of in companions.items()},
            prior=prior,
            without_prior=without_prior,
            folder=self._spool.work(job_id),
        )
        worker = self._free.get()
        try:
            reply = worker.run(task, lambda: self._wanted(job_id))
        finally:
            self._free.put(worker)

        def write(connection: sa.Connection) -> None:
            tell(connection, job_id, "infer timings", _timings(reply, worker.device))
            record_outcome(connection, job_id, reply.outcome, reply.reason)
            if reply.facts:
                record_facts(connection, job_id, job.pipeline, _facts(reply, worker.device))

        return Done(write=write)

    def close(self) -> None:
        """Kill the children; what they do is recovered later."""
        for worker in self._workers:
            worker.close()

    def _prior(self, job: Job, paths: Sequence[str]) -> tuple[Prior | None, str]:
        """The earlier analysis that the rule asks for; without one the reason, for the report.

        A destination that cannot be asked is no reason to wait with a result.
        """
        wanted = next((rule.prior for rule in self._config.rules if rule.name == job.rule), None)
        if wanted is None or self._earlier_reports is None:
            return None, ""
        folder = self._spool.work(job.id) / "prior"
        try:
            header = read_header(self._spool.absolute(paths[0]))
            with closing(self._earlier_reports(wanted, header, folder)) as studies:
                for reports in studies:
                    prior = read_prior([read_header(path) for path in reports], job.pipeline)
                    if prior is not None:
                        return prior, ""
        except NodeError as error:
            logger.warning("job %s: no earlier analysis: %s", job.id, error)
            return None, f"Earlier analyses could not be asked for at {wanted.source}; nothing was compared."
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return None, f"No earlier analysis was found at {wanted.source} within {wanted.days} days."

    def _warm_one(self) -> None:
        worker = self._free.get()
        try:
            for name, table in self._config.pipelines.items():
                task = Task(job_id="", pipeline=name, table=table, paths=(), folder=self._spool.folder, load_only=True)
                try:
                    seconds = worker.run(task, lambda: True).timings["load"]
                except NodeError as error:  # jobs that need it will fail for the same reason, which is then theirs
                    logger.warning("pipeline %s cannot be loaded on %s: %s", name, worker.device, error)
                else:
                    logger.info("pipeline %s loaded on %s in %.1f s", name, worker.device, seconds)
        except Unwanted:
            logger.debug("stopped while pipelines were loaded on %s", worker.device)
        finally:
            self._free.put(worker)

    def _wanted(self, job_id: str) -> bool:
        try:
            with self._engine.connect() as connection:
                return is_active(connection, job_id)
        except sa.exc.SQLAlchemyError as error:
            logger.warning("job %s: the ledger does not answer (%s); the pipeline goes on", job_id, error)
            return True


class Encode:
    """Turns handovers into DICOM objects that passed the gate, and owes them to the destinations."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool

    def stage(self) -> Stage:
        """As the engine executes it."""
        return Stage(name=ENCODE, handler=self.encode, retries=_retries(self._config), begin=self.sweep)

    def encode(self, job_id: str, _subject: str) -> Done:
        """Handler: every object is on disk before its row is written, every row before anything is sent."""
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
            paths = [self._spool.absolute(path) for path in source_paths(connection, job)]
        source = _readable_series(paths)
        analysis = self._analysis(job)
        kinds = {name: self._config.kinds(name) for name in job.destinations}
        wanted = frozenset().union(*kinds.values()) if kinds else frozenset(DEFAULT_OBJECTS)
        rows, withheld, fault = self._encoded(job, analysis, source, wanted)
        if fault and analysis.outcome != "failed":
            analysis = replace(analysis, outcome="failed", reason=fault, findings=None)
            more, withheld, fault = self._encoded(job, analysis, source, wanted)
            rows += more
        if fault:
            raise EncodeError(f"the report of a failure was refused as well: {fault}")
        made = {str(row["kind"]) for row in rows if row["quarantine"] is None}
        owed = {name: kinds[name] for name in kinds if self._config.is_owed(name, analysis.outcome, made)}

        def write(connection: sa.Connection) -> None:
            record_results(connection, job_id, rows)
            for sentence in withheld:
                tell(connection, job_id, "objects withheld", sentence)
            if analysis.outcome != job.outcome:
                record_outcome(connection, job_id, analysis.outcome, analysis.reason)
            owe_results(connection, job_id, owed)

        return Done(write=write, then=lambda: shutil.rmtree(self._spool.work(job_id), ignore_errors=True))

    def sweep(self) -> None:
        """Remove the handovers of jobs that are past encode, left behind by a crash."""
        with self._engine.connect() as connection:
            for folder in (self._spool.folder / "work").iterdir():
                try:
                    needed = get_job(connection, folder.name).stage in (INFER, ENCODE)
                except NotFoundError:
                    needed = False
                if not needed:
                    shutil.rmtree(folder, ignore_errors=True)

    def _analysis(self, job: Job) -> Analysis:
        handover = self._handover(job)
        outcome: Any = job.outcome or "failed"  # Analysis checks the word
        return Analysis(
            pipeline=job.pipeline,
            algorithm=handover.algorithm if handover else Algorithm(name=job.pipeline, version=""),
            generation=job.generation,
            outcome=outcome,
            reason=job.reason or "",
            findings=handover.findings if handover and outcome in ANALYSED else None,
            analysed_at=handover.analysed_at if handover else datetime.fromtimestamp(job.created_at, UTC),
            timings=handover.timings if handover else {},
        )

    def _handover(self, job: Job) -> Handover | None:
        """What the last run left; after a failure it may have left nothing."""
        try:
            return load(self._spool.work(job.id))
        except InputError:
            if job.outcome in ANALYSED:
                raise
            return None

    def _encoded(
        self, job: Job, analysis: Analysis, source: SourceSeries, kinds: frozenset[str]
    ) -> tuple[list[dict[str, object]], tuple[str, ...], str]:
        """Rows of the objects of one analysis, kept on disk; which were withheld; what is wrong with all of them.

        What is wrong is quarantined. One bad object of an optional kind is withheld with its kind, and the report made
        without it says so.
        """
        rows: list[dict[str, object]] = []
        earlier = self._earlier(job, report_uids(analysis, source))
        while True:
            objects: tuple[EncodedObject, ...] = ()
            fault, bad = "", kinds
            try:
                objects = encode(analysis, source, kinds, earlier)
                check(objects, source)
            except EncodeError as error:
                fault, bad = str(error), error.kinds & kinds & OPTIONAL
            if not fault or not bad:
                rows += [keep(self._spool, job.id, encoded, fault or None) for encoded in objects]
                return rows, analysis.withheld, fault
            rows += [keep(self._spool, job.id, encoded, fault) for encoded in objects if encoded.kind in bad]
            sentence = f"Not sent: {', '.join(sorted(bad))} ({fault})"
            analysis = replace(analysis, withheld=(*analysis.withheld, sentence))
            kinds -= bad

    def _earlier(self, job: Job, new: frozenset[str]) -> Earlier | None:
        """The result that this one takes the place of: of an earlier run of the job, or of an earlier generation."""
        with self._engine.connect() as connection:
            results = earlier_results(connection, job)
        for of_one_job in results:
            if new.isdisjoint(uid for uid, _, _ in of_one_job):  # a repeated encoding finds its own
                paths = {kind: self._spool.absolute(path) for _, kind, path in of_one_job}
                return Earlier.read({kind: path for kind, path in paths.items() if path.exists()})
        return None


def keep(spool: Spool, job_id: str, encoded: EncodedObject, quarantine: str | None) -> dict[str, object]:
    """Put one object on disk; returns its ``result`` row."""
    head = dcmread(BytesIO(encoded.data), stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    sop_instance_uid = str(head.file_meta.MediaStorageSOPInstanceUID)
    kept = spool.keep_result(job_id, sop_instance_uid, encoded.data)
    return {
        "sop_instance_uid": sop_instance_uid,
        "job_id": job_id,
        "sop_class_uid": str(head.file_meta.MediaStorageSOPClassUID),
        "transfer_syntax_uid": str(head.file_meta.TransferSyntaxUID),
        "series_instance_uid": str(head.SeriesInstanceUID),
        "description": encoded.description,
        "path": kept.path,
        "sha256": kept.sha256,
        "size": kept.size,
        "quarantine": quarantine,
        "created_at": now(),
        "kind": encoded.kind,
    }


def _retries(config: Config) -> Retries:
    return Retries(
        max_attempts=config.jobs.max_attempts,
        first_seconds=config.jobs.first_retry_seconds,
        max_seconds=config.jobs.max_retry_seconds,
    )


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


def _facts(reply: Reply, device: str) -> dict[str, Any]:
    return {
        **reply.facts,
        "outcome": reply.outcome,
        "device": device,
        "run_seconds": reply.timings.get("run", 0.0),
        "host_mib": reply.peak_memory_mib.get("host"),
        "device_mib": reply.peak_memory_mib.get("device"),
    }


def _timings(reply: Reply, device: str) -> str:
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in reply.timings.items())
    peaks = ", ".join(f"{mib:.0f} MiB {where}" for where, mib in reply.peak_memory_mib.items())
    return f"{parts} on {device}; peak memory {peaks}"

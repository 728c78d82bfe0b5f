"""The stage infer: pipelines run in child processes, one at a time on each device."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from node.config import Config
from node.errors import NodeError
from node.inference.device_slots import DeviceSlots
from node.inference.devices import device_names, thread_count
from node.inference.memory_admission import MemoryPeak
from node.inference.model_process import TaskAborted
from node.inference.model_processes import ModelProcesses
from node.inference.pipeline_description import PipelineDescription
from node.inference.plugins import offered, table_of
from node.inference.prerequisite_files import files_of, prerequisite_fault
from node.inference.prior_files import PriorFinder
from node.inference.returned_files import returned_files
from node.inference.shadow_run import ShadowRun
from node.inference.task import PriorFiles, Reply, Task
from node.inference.tested_version import acceptance_refusal
from node.jobs.stage import Done, Stage, retries
from node.ledger import JobStage
from node.ledger.analysis_statistics import latest_statistics, record_statistics
from node.ledger.events import EventKind, record_event
from node.ledger.holdings import record_handover
from node.ledger.job_outcome import record_outcome
from node.ledger.jobs import Job, get_job, is_active, source_paths
from node.ledger.prerequisite_results import prerequisite_results
from node.ledger.promotions import active_promotions
from node.ledger.shadow import allow_sending
from node.ledger.states import ShadowCause
from node.outcome import Outcome
from node.process.idle_time import IdleTime
from node.reasons import Reason, ReasonCode, reason, reason_text
from node.spool import Spool
from node.spool.remove_tree import sweep_members
from node.translation import in_every_language
from node.wording import timings_text

logger = logging.getLogger(__name__)

_RUNS_WAITED_FOR = 3
"""The run of another job, a run that loads models, and its own: each is killed after its limit."""
_LONGEST_WAIT = 1800.0
"""Seconds for everything else, such as the retrieval of prior studies."""
_REMEMBERED = 50
"""Analyses of a pipeline from which its need of memory is learned."""


class Infer:
    """Runs pipelines, one at a time on each device."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        spool: Spool,
        priors: PriorFinder | None = None,
        idle_time: IdleTime | None = None,
        *,
        prepare_encoding: Callable[[str, tuple[Path, ...]], None] = lambda _job_id, _images: None,
    ) -> None:
        """``idle_time``: of this process, in which jobs in shadow compute.

        ``prepare_encoding``: called with the images of a job when it has its device: they are encoded next.
        """
        self._config = config
        self._engine = engine
        self._spool = spool
        self._priors = priors
        self._idle_time = idle_time or IdleTime()
        self._prepare_encoding = prepare_encoding
        self._processes = ModelProcesses(
            thread_count(config.devices),
            config.jobs.run_timeout_seconds,
            spool.sandbox_folders,
            config.pipelines,
            self._idle_time,
        )
        self._slots = DeviceSlots(device_names(config.devices))
        self._shadow = ShadowRun(self._processes, self._slots, self._idle_time, self._wanted)
        self.pipelines = offered(config.pipelines)
        """Names of the pipelines that run here."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that run pipelines."""
        return self._slots.devices

    def stage(self) -> Stage:
        """Return the stage for the engine."""
        return Stage(
            name=JobStage.INFER,
            handler=self.infer,
            retries=retries(self._config.jobs),
            seconds=_LONGEST_WAIT + _RUNS_WAITED_FOR * self._config.jobs.run_timeout_seconds,
            owners=self.pipelines,
            slots=self._slots.number,
            shadow_slots=len(self._slots.devices),
            takes_shadow=self._slots.has_idle,
            paused_seconds=self._idle_time.taken_seconds,
            withdraw_shadow=self._idle_time.withdraw,
            begin=self.warm,
            tidy=lambda alive: sweep_members(self._spool.sandbox_folders.parent, alive),
            interrupt=self.close,
        )

    def warm(self) -> None:
        """Load every pipeline that is sent on every device in the background, before the first job."""
        for name in self._config.pipelines.keys() - set(self.pipelines):
            logger.warning("pipeline %s is not installed here; its jobs wait for a worker that has it", name)
        tried = self._tried()  # which their first job loads, when nobody else wants the device
        sent = [name for name in self.pipelines if name not in tried]
        for device in self._slots.devices:
            threading.Thread(target=self._warm_one, args=(device, sent), name="warm", daemon=True).start()

    def infer(self, job_id: str, _subject: str) -> Done:
        """Handler: run the job's pipeline in a child process and leave the handover for encode."""
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
            paths = source_paths(connection, job)
            companions = {name: source_paths(connection, job, name) for name in job.companions}
            seen = _seen(latest_statistics(connection, job.pipeline, _REMEMBERED))
            needed = prerequisite_results(connection, job)
        returned = returned_files(self._config, self._engine, self._spool, job)
        if (fault := prerequisite_fault(needed, self._config.title)) is not None:
            return self._without_run(job, *fault)
        task = Task(
            job_id=job_id,
            pipeline=job.pipeline,
            table=table_of(job.pipeline, self._config.pipelines),
            paths=self._spool.all_readable(paths),
            companions={name: self._spool.all_readable(of) for name, of in companions.items()},
            prior=self._prior(job, paths),
            results=files_of(needed, self._spool.all_readable),
            returned=returned,
            seen=seen,
            incomplete=in_every_language(lambda: reason_text(job.incomplete)),
            folder=self._spool.work(job_id),
            in_shadow=job.shadow == ShadowCause.TRIAL,
        )
        try:
            with nullcontext() if task.in_shadow else self._idle_time.taken(), self._turn(task) as device:
                reply = self._run(device, task)
        finally:
            shutil.rmtree(self._spool.work(job_id) / "prior", ignore_errors=True)

        timings = timings_text(reply.timings, reply.peak_memory_mib, device)
        logger.info("job %s: %s: %s; %s", job_id, job.pipeline, reply.outcome, timings)

        stated = PipelineDescription.received(reply.description) if task.table.require_acceptance else None

        def refusal_of(connection: Connection) -> Reason | None:
            return None if stated is None else acceptance_refusal(connection, job.pipeline, task.table, stated)

        def write(connection: Connection) -> None:
            record_event(
                connection,
                job_id,
                EventKind.INFER_TIMINGS,
                timings=dict(reply.timings),
                peak_memory_mib=dict(reply.peak_memory_mib),
                device=device,
            )
            record_handover(connection, self._spool.machine, f"work/{job_id}")
            record_outcome(connection, job_id, reply.outcome, _reason(reply))
            if reply.facts:
                record_statistics(connection, job_id, job.pipeline, self._statistics(reply, device))
            allow_sending(connection, job, refusal_of(connection))

        return Done(write=write)

    def _without_run(self, job: Job, outcome: Outcome, why: Reason) -> Done:
        """End a job that needs a result which is not there."""
        logger.info("job %s: %s: %s: %s", job.id, job.pipeline, outcome, reason_text(why))
        table = table_of(job.pipeline, self._config.pipelines)

        def write(connection: Connection) -> None:
            record_outcome(connection, job.id, outcome, why)
            allow_sending(connection, job, acceptance_refusal(connection, job.pipeline, table, None))

        return Done(write=write)

    def _run(self, device: str, task: Task) -> Reply:
        if task.in_shadow:
            return self._shadow.run(device, task)
        self._prepare_encoding(task.job_id, task.paths)
        return self._processes.run(device, task, lambda: self._wanted(task.job_id))

    def close(self) -> None:
        """Kill the children; their work is recovered later."""
        self._processes.close()

    def _prior(self, job: Job, paths: Sequence[str]) -> PriorFiles:
        wanted = next((rule.prior for rule in self._config.rules if rule.name == job.rule), None)
        if wanted is None or self._priors is None:
            return PriorFiles()
        return self._priors.files(
            wanted,
            dict.fromkeys((self._config.title(job.pipeline), job.pipeline)),
            self._spool.readable(paths[0]),
            self._spool.work(job.id) / "prior",
        )

    @contextmanager
    def _turn(self, task: Task) -> Iterator[str]:
        """The device that runs ``task``, when it is its turn. Of several that of the fewest jobs.

        While it runs another job, it decodes the series of this one.
        """
        if task.in_shadow:
            with self._slots.chosen_in_shadow() as device:
                yield device
            return
        with self._slots.chosen() as (device, is_busy):
            if is_busy:
                self._processes.prepare(device, task)
            with self._slots.running(device):
                if is_busy and not self._wanted(task.job_id):
                    self._processes.discard(device, task)
                    raise TaskAborted(f"job {task.job_id} is not wanted any more")
                yield device

    def _warm_one(self, device: str, pipelines: Sequence[str]) -> None:
        try:
            for name in pipelines:
                table = self._config.pipelines[name]
                task = Task(job_id="", pipeline=name, table=table, paths=(), folder=self._spool.folder, load_only=True)
                try:
                    with self._slots.running(device):
                        seconds = self._processes.run(device, task, lambda: True).timings["load"]
                except NodeError as error:  # jobs that need it will fail for the same reason, which is then theirs
                    logger.warning("pipeline %s cannot be loaded on %s: %s", name, device, error)
                else:
                    logger.info("pipeline %s loaded on %s in %.1f s", name, device, seconds)
        except TaskAborted:
            logger.debug("stopped while pipelines were loaded on %s", device)

    def _tried(self) -> set[str]:
        """Pipelines that are tried in shadow now."""
        with self._engine.connect() as connection:
            promoted = active_promotions(connection)
        tried = {name for rule in self._config.rules for name in rule.shadow}
        return tried - {promotion.candidate for promotion in promoted} | {promotion.champion for promotion in promoted}

    def _statistics(self, reply: Reply, device: str) -> dict[str, Any]:
        return {
            **reply.facts,
            "outcome": reply.outcome,
            "device": device,
            "run_seconds": reply.timings.get("run", 0.0),
            "host_mib": reply.peak_memory_mib.get("host"),
            "device_mib": reply.peak_memory_mib.get("device"),
            "configuration": self._config.digest,
        }

    def _wanted(self, job_id: str) -> bool:
        try:
            with self._engine.connect() as connection:
                return is_active(connection, job_id)
        except SQLAlchemyError as error:
            logger.warning("job %s: the ledger does not answer (%s); the pipeline goes on", job_id, error)
            return True


def _seen(facts: Sequence[dict[str, Any]]) -> tuple[MemoryPeak, ...]:
    return tuple(
        MemoryPeak(
            device=fact["device"], voxels=fact["voxels"], host_mib=fact["host_mib"], device_mib=fact["device_mib"]
        )
        for fact in facts
        if fact["voxels"] and fact["host_mib"] is not None
    )


def _reason(reply: Reply) -> Reason | None:
    """Why the outcome is what it is: what the process of the pipeline stated, which ran a model, is a quotation."""
    if not reply.reason:
        return None
    translations = {"translations": reply.translations} if reply.translations else {}
    return reason(ReasonCode.STATED, text=str(reply.reason), **translations)

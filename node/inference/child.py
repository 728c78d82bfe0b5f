"""The process that runs one pipeline, or those of one trust group: its models stay loaded between jobs.

It shares nothing with its parent but a pipe and a folder (``node.inference.sandbox_folder``): it has no network and
sees no other file of the node. A CUDA fault, a hang or a lack of memory ends it and nothing else. When the parent
dies, it ends with all that it started (``node.process.subreaper``). This module imports little: the thread limits
must be set before numpy and torch load.
"""

from __future__ import annotations

import gc
import importlib
import logging
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from node.confined.sandbox import fork_sandboxed, shut_in
from node.errors import AdmissionError, IdentityError, InputError, NodeError, PipelineError, error_code
from node.inference.child_output import received_tasks, send_reply
from node.inference.device_memory import CLEAR_REFS, peak_mib, release_unused, reset_peak, room_on, works
from node.inference.sent_tensors import send_tensors_by_value
from node.inference.task import CACHES, COMPILERS, Answer, Bounds, PriorFiles, Reply, Task
from node.isolation import WRITE, programs
from node.process.memory import keep_freed_memory

if TYPE_CHECKING:
    from pathlib import Path

    from node.inference.outside_calls import OutsideCalls
    from node.inference.prefetch import Prefetcher
    from node.pipeline import Pipeline, Prior
    from node.studies.source import SourceSeries

logger = logging.getLogger(__name__)


def main() -> None:
    """Run tasks from the pipe, after its ``Bounds``, until it is closed: ``python -c ... DESCRIPTOR PARENT``."""
    descriptor, parent = map(int, sys.argv[1:])
    tasks = Connection(descriptor)
    bounds: Bounds = tasks.recv()
    own = [bounds.cache, bounds.out] if bounds.cache else [bounds.out]
    own += [bounds.exchange.inputs, bounds.exchange.outputs] if bounds.exchange else []
    rules = (*programs(), *bounds.rules, *((folder, WRITE) for folder in own), (CLEAR_REFS, WRITE))
    sandbox = fork_sandboxed(parent, tasks.close, rules, own)
    keep_freed_memory()
    os.environ |= {"TMPDIR": str(bounds.out), "HOME": str(bounds.out)}
    os.environ |= dict.fromkeys(("LOGNAME", "USER"), "ainode-model")  # its user may have no entry in /etc/passwd
    os.environ |= dict.fromkeys(CACHES, str(bounds.cache or bounds.out))
    os.environ |= {name: str((bounds.cache or bounds.out) / folder) for name, folder in COMPILERS.items()}
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
    logger.info("%s", sandbox)
    if sandbox.shows_other_files:
        logger.warning("models can read the files of this user: no Landlock, no namespaces; ask ainode doctor")
    os.open(CLEAR_REFS, os.O_PATH)  # while it is open, the kernel keeps the file that the rule is about
    shut_in(rules)
    # so that processes of a pipeline send tensors as this one does; from Python 3.14 it is no longer the default
    multiprocessing.set_start_method("fork", force=True)
    send_tensors_by_value()
    from node.inference.decoders import Decoders
    from node.inference.outside_calls import OutsideCalls
    from node.inference.prefetch import Prefetcher

    prefetcher = Prefetcher(Decoders(bounds.threads, tasks.close))
    loaded: OrderedDict[str, Pipeline] = OrderedDict()
    runs: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    outside = OutsideCalls(bounds.exchange, tasks) if bounds.exchange else None
    threading.Thread(target=_receive, args=(tasks, runs, prefetcher, outside), name="tasks", daemon=True).start()
    while (task := runs.get()) is not None:
        if outside is not None:
            outside.begin(task)
        reply = execute(task, loaded, bounds.device, prefetcher, outside)
        send_reply(tasks, replace(reply, task=task.number))
        if reply.ends_process:
            return
        release_unused(bounds.device)


def _receive(
    tasks: Connection, runs: queue.SimpleQueue[Task | None], prefetcher: Prefetcher, outside: OutsideCalls | None
) -> None:
    """Pass on the tasks that come while one runs, and answers; ``None`` at the end."""
    for task in received_tasks(tasks):
        if isinstance(task, Answer):
            if outside is not None:
                outside.answers.put(task)
        elif task.prefetch:
            if task.paths:
                prefetcher.begin(task.paths, *task.companions.values(), task.prior.images)
            else:
                prefetcher.drop()
        else:
            runs.put(task)
    runs.put(None)


def execute(
    task: Task,
    loaded: OrderedDict[str, Pipeline],
    device: str,
    prefetcher: Prefetcher,
    outside: OutsideCalls | None = None,
) -> Reply:
    """Run one task. The handover is durable before this returns; after *not applicable* it holds no findings.

    A model that failed is unloaded, the others stay; images that cannot be read cost no model.
    """
    from node.inference.analysis_statistics import statistics_of, voxels_of
    from node.inference.handover import Handover, save
    from node.inference.memory_admission import admit
    from node.inference.pipeline_description import PipelineDescription
    from node.inference.run_pipeline import (
        analyse,
        broken,
        chained_algorithm,
        described,
        licensed,
        licensed_algorithm,
        one_patient,
        stated_reason,
    )
    from node.outcome import Outcome
    from node.pipeline import Findings, Unsuitable
    from node.studies.image_needs import part_taken

    timings: dict[str, float] = {}
    clock = _Clock(timings)
    computed = time.process_time()
    try:
        reset_peak(device)
        pipeline = _pipeline(task, loaded, device, outside)
        clock.lap("load")
        if task.load_only:
            return Reply(
                timings=timings, peak_memory_mib=peak_mib(device), description=asdict(PipelineDescription.of(pipeline))
            )
        outcome: Outcome = Outcome.NOT_APPLICABLE
        reason, findings = "", Findings()
        facts: dict[str, Any] = {}
        inputs: tuple[str, ...] = ()
        algorithms: dict[str, str] = {}
        try:
            source = _source(task, prefetcher)
            inputs = _inputs(source, task.prior, of_volumes=bool(pipeline.needs.volumes_by))
            algorithms = described(source.results)
            one_patient(source)
            clock.lap("read")
            seen = [peak for peak in task.seen if peak.device == device]
            outcome, reason, findings = analyse(
                pipeline,
                source,
                admit=lambda: admit(
                    task.pipeline, seen, voxels_of(source), loaded, lambda: room_on(device), alone=task.alone
                ),
                without_prior=task.prior.without,
                incomplete=task.incomplete,
            )
            findings = licensed(findings, task.table.license)
            facts = statistics_of(source, findings) | {
                "version": pipeline.algorithm.version,
                "weights": pipeline.algorithm.weights_sha256,
            }
        except Unsuitable as unsuitable:
            reason = stated_reason(unsuitable)
        clock.lap("run")
        peak = peak_mib(device)
        handover = Handover(
            findings=findings,
            algorithm=licensed_algorithm(chained_algorithm(pipeline.algorithm, algorithms), task.table.license),
            device=device,
            analysed_at=clock.now(),
            timings=timings,
            peak_memory_mib=peak,
            inputs=inputs,
            images=part_taken(pipeline.needs, source),
            of_volumes=bool(pipeline.needs.volumes_by),
        )
        save(task.folder, handover)
        clock.lap("hand over")
    except NodeError as error:
        failed = Reply(error=error_code(error), reason=str(error))
        at_fault = not isinstance(error, InputError | AdmissionError)
    except Exception as error:  # the actor's own loop: whatever a pipeline raises is a failed attempt
        logger.exception("job %s: pipeline %s broke", task.job_id, task.pipeline)
        failed, at_fault = Reply(error=PipelineError.code, reason=broken(task.pipeline, error)), True
    else:
        return Reply(
            outcome=outcome,
            reason=reason,
            timings=timings,
            peak_memory_mib=peak,
            cpu_seconds=round(time.process_time() - computed, 3),
            facts=facts,
            description=asdict(PipelineDescription.of(pipeline)),
        )
    if not at_fault:
        return failed
    loaded.pop(task.pipeline_key, None)
    gc.unfreeze()  # it may hold itself
    return replace(failed, ends_process=not (loaded and works(device)))


def _prior(job_id: str, files: PriorFiles, read: Callable[[tuple[Path, ...]], SourceSeries]) -> Prior | None:
    from node.results.prior.masks import prior_masks
    from node.results.prior.report import read_prior
    from node.studies.header import read_header
    from node.studies.identity import PRIOR, contradictions

    if files.report is None:
        return None
    report = read_header(files.report)
    images = None
    if files.images:
        try:
            images = read(files.images)
            if keywords := contradictions((report, *images.datasets), PRIOR):
                raise IdentityError(f"{', '.join(keywords)}: the images contradict the report on them")
        except InputError as error:
            logger.warning("job %s: images of the earlier study: %s", job_id, error)
    masks = None
    if files.segmentation is not None:
        try:
            if keywords := contradictions((report, read_header(files.segmentation)), PRIOR):
                raise IdentityError(f"{', '.join(keywords)}: it contradicts the report on it")
            masks = prior_masks(files.segmentation)
        except InputError as error:
            logger.warning("job %s: segmentation of the earlier study: %s", job_id, error)
    return read_prior(report, images, masks)


def _source(task: Task, prefetcher: Prefetcher) -> SourceSeries:
    """The series of a task with companions, prior and results."""
    from node.inference.run_pipeline import results_of

    read = prefetcher.reader(task.paths)
    source = read(task.paths)
    return replace(
        source,
        companions={name: read(paths) for name, paths in task.companions.items()},
        prior=_prior(task.job_id, task.prior, read),
        results=results_of(task.results, source.first_volume),
    )


def _inputs(source: SourceSeries, prior: PriorFiles, *, of_volumes: bool) -> tuple[str, ...]:
    """``Analysis.inputs``: other images by companion or volume, the earlier report, results. ``of_volumes``: of all."""
    from node.studies.header import read_header

    volumes = source.parts[1:] if of_volumes else ()
    others = {**source.companions, **{f"volume {number}": of for number, (_, of) in enumerate(volumes, 2)}}
    named = [f"{name} {image.SOPInstanceUID}" for name, of in others.items() for image in of.datasets]
    named += [f"result {name} {of.sop_instance_uid}" for name, of in source.results.items()]
    if prior.report is not None:
        had = f"{int(prior.segmentation is not None)} segmentation, {len(prior.images)} images"
        named.append(f"prior {read_header(prior.report).SOPInstanceUID}: {had}")
    return (*named, prior.without)


class _Clock:
    """Adds laps to a mapping of seconds."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings = timings
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        at = time.monotonic()
        self._timings[name] = round(at - self._last, 3)
        self._last = at

    @staticmethod
    def now() -> Any:
        from datetime import UTC, datetime

        return datetime.now(UTC)


def _pipeline(task: Task, loaded: OrderedDict[str, Pipeline], device: str, outside: OutsideCalls | None) -> Pipeline:
    from node.inference.plugins import load_pipeline

    key = task.pipeline_key
    if key not in loaded:
        importlib.invalidate_caches()  # a package may have been installed since
        gc.disable()  # what it imports and loads stays: looking for garbage in it takes a fifth of the time
        try:
            loaded[key] = load_pipeline(task.pipeline, task.table, device, outside)
            gc.freeze()
        finally:
            gc.enable()
    loaded.move_to_end(key)
    return loaded[key]

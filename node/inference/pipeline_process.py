"""One pipeline in a confined process, for commands; ``node.inference.infer_stage`` is for jobs.

Loading a model runs code of its author: no process of the node but a confined one imports a factory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from node.config import Config, PipelineTable
from node.inference.devices import device_names, thread_count
from node.inference.model_process import ModelProcess
from node.inference.pipeline_description import PipelineDescription
from node.inference.sandbox_folder import models
from node.inference.task import Task
from node.outside.caller import goes_outside

LOADING_SECONDS = 300.0
"""Longest time in which a pipeline may load here."""


def describe(name: str, config: Config, table: PipelineTable | None = None) -> PipelineDescription:
    """Load pipeline ``name`` on the first configured device in a process of its own, and describe it.

    ``table``: that of a pipeline which is not configured. Raises what loading raises, and ``PipelineError`` when the
    process ends or takes too long.
    """
    table = config.pipelines[name] if table is None else table
    seconds = min(LOADING_SECONDS, config.jobs.run_timeout_seconds)
    device, threads = device_names(config.devices)[0], thread_count(config.devices)
    with pipeline_process(table, device, threads=threads, seconds=seconds, level=logging.DEBUG) as worker:
        reply = worker.run(loading(name, table), lambda: True)
    return PipelineDescription.received(reply.description)


def loading(name: str, table: PipelineTable) -> Task:
    """Return the task that only loads a pipeline."""
    return Task(job_id="", pipeline=name, table=table, paths=(), folder=Path(), load_only=True)


@contextmanager
def pipeline_process(
    table: PipelineTable, device: str, *, threads: int, seconds: float, level: int = logging.INFO
) -> Iterator[ModelProcess]:
    """Return a worker for one pipeline, which ends with the context; ``level`` of what it prints in the log."""
    with TemporaryDirectory(prefix="ainode-") as folder:
        rules = tuple(models([table]))
        worker = ModelProcess(
            device, threads, seconds, Path(folder), rules=rules, level=level, exchange=goes_outside([table])
        )
        try:
            yield worker
        finally:
            worker.close()

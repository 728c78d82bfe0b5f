"""Tasks of the scripted pipeline for a worker's child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dicom_files import ct_series, write

from node.config import PipelineTable
from node.inference.task import Task


def task(folder: Path, datasets: Any = None, weights: Path | None = None, **options: Any) -> Task:
    paths = write(datasets or ct_series(n=4, size=16), folder / "in")
    table = PipelineTable(factory="job_pipelines:create", weights=weights, options=options)
    return Task(job_id="j", pipeline="scripted", table=table, paths=tuple(paths), folder=folder / "out")


def wanted() -> bool:
    return True

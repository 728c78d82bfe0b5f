"""A node without network for tests of jobs: ledger, spool, received series, and a destination that is a text file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from ledgers import open_copy
from pydicom import FileDataset, dcmread
from timeline import timeline

from node.config import Config
from node.confined import ConfinedProcess
from node.inference.encode_stage import Encode
from node.inference.infer_stage import Infer
from node.jobs.engine import Jobs
from node.jobs.pace import Pace
from node.jobs.stage import Stage
from node.ledger import JobStage
from node.ledger.deliveries import ObjectStatus, begin_delivery, record_statuses, settle_delivery
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Job, NewJob, Retries, get_job
from node.ledger.pending_deliveries import instances_to_store
from node.ledger.tables import instance, result
from node.process.idle_time import IdleTime
from node.spool import Spool

PACE = Pace(
    beat_seconds=0.2,
    look_seconds=0.2,
    dead_after_seconds=4.0,
    poll_seconds=0.1,
    old_poll_seconds=1.0,
    reconcile_seconds=1.0,
)
RETRIES = Retries(max_attempts=3, first_seconds=0.2, max_seconds=1.0)


def config_of(
    folder: Path,
    url: str = "",
    *,
    pipelines: dict[str, Any] | None = None,
    trust_group: str = "tests",
    **options: Any,
) -> Config:
    """``pipelines`` by name with their options, or one, ``scripted``; some destinations do not want everything."""
    peer = {"title": "PACS", "host": "127.0.0.1", "port": 104}
    return Config.model_validate(
        {
            "storage": {"folder": folder, "ledger_url": url},
            "devices": {"use": ("cpu",), "cpu_threads": 1},
            "jobs": {"first_retry_seconds": 0.2, "max_retry_seconds": 1.0, "max_attempts": 2},
            "pipelines": {
                name: {"factory": "job_pipelines:create", "options": of, "trust_group": trust_group}
                for name, of in (pipelines or {"scripted": options}).items()
            },
            "destinations": {
                "pacs": peer,
                "findings": {**peer, "outcomes": ("findings",)},
                "reports": {**peer, "objects": ("sr",)},
                "masks": {**peer, "objects": ("seg",)},
                "pictures": {**peer, "objects": ("seg", "sr", "key images", "pdf")},
            },
        }
    )


def encode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode in this process, where a test can break a function, instead of a confined one."""

    def call(_: object, _about: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    monkeypatch.setattr(ConfinedProcess, "call", call)


class JobNode:
    """Opens, in whichever process, the ledger and the spool below ``config.storage.folder``."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.storage.folder
        self.spool = Spool(self.folder)
        self.engine = open_copy(config.storage.ledger_url or f"sqlite:///{self.folder / 'ledger.sqlite'}")
        self.jobs = Jobs(self.engine, PACE)
        self.idle_time = IdleTime()

    @contextmanager
    def working(self) -> Iterator[JobNode]:
        """Executes its stages meanwhile."""
        self.jobs.serve("test", self.stages())
        try:
            yield self
        finally:
            self.jobs.stop()
            self.engine.dispose()

    def receive(self, datasets: Iterable[FileDataset] | None = None) -> tuple[str, str]:
        """Keep and record a series as the receiver does; return its study and series UID."""
        rows = []
        for dataset in datasets or ct_series(n=4, size=16):
            buffer = BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            study, series, sop = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
            kept = self.spool.keep(study, series, sop, [buffer.getvalue()])
            rows.append(
                {
                    "sop_instance_uid": sop,
                    "sop_class_uid": dataset.SOPClassUID,
                    "transfer_syntax_uid": dataset.file_meta.TransferSyntaxUID,
                    "study_instance_uid": study,
                    "series_instance_uid": series,
                    "modality": dataset.Modality,
                    "path": kept.path,
                    "digest": kept.digest,
                    "size": kept.size,
                    "received_at": time.time(),
                }
            )
        with begin_immediate(self.engine) as connection:
            connection.execute(sa.insert(instance), rows)
        return str(study), str(series)

    def enqueue(
        self,
        datasets: Iterable[FileDataset] | None = None,
        *,
        destinations: tuple[str, ...] = ("pacs",),
        pipeline: str = "scripted",
    ) -> str:
        """Receive a series and enqueue a job for it."""
        return self.enqueue_for(*self.receive(datasets), destinations=destinations, pipeline=pipeline)

    def enqueue_for(self, study: str, series: str, *, destinations: tuple[str, ...], pipeline: str, **more: Any) -> str:
        """Enqueue a job for a received series."""
        new = NewJob(
            study_instance_uid=study,
            series_instance_uid=series,
            generation=1,
            pipeline=pipeline,
            rule="all",
            destinations=destinations,
            priority=2,
            **more,
        )
        with begin_immediate(self.engine) as connection:
            assert self.jobs.enqueue(connection, new)
        return new.id

    def stages(self) -> list[Stage]:
        """Infer (not warmed up) and encode, and a delivery that writes to ``delivered.txt``."""
        deliver = Stage(name=JobStage.DELIVER, handler=self.deliver, retries=RETRIES, seconds=60.0, slots=4)
        return [
            replace(Infer(self.config, self.engine, self.spool, idle_time=self.idle_time).stage(), begin=lambda: None),
            Encode(self.config, self.engine, self.spool, self.idle_time).stage(),
            deliver,
        ]

    def deliver(self, job_id: str, destination: str) -> None:
        with begin_immediate(self.engine) as connection:
            claim = begin_delivery(connection, job_id, destination)
            assert claim is not None
            owed = instances_to_store(connection, job_id, destination)
        for row in owed:
            dcmread(self.spool.absolute(row.path))
            with (self.folder / "delivered.txt").open("a") as file:
                file.write(f"{destination} {row.sop_instance_uid}\n")
            with begin_immediate(self.engine) as connection:
                record_statuses(connection, claim, [ObjectStatus(row.sop_instance_uid, 0x0000)])
        with begin_immediate(self.engine) as connection:
            settle_delivery(connection, job_id, destination)

    def delivered(self) -> Counter[str]:
        """``DESTINATION SOP`` -> how often."""
        file = self.folder / "delivered.txt"
        return Counter(file.read_text().splitlines() if file.exists() else ())

    def job(self, job_id: str) -> Job:
        with self.engine.connect() as connection:
            return get_job(connection, job_id)

    def wait(self, job_id: str, until: Callable[[Job], bool] | None = None, seconds: float = 120.0) -> Job:
        """The job once it ended, or once ``until`` holds."""
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if until(job) if until else job.state in ("COMPLETED", "CANCELED"):
                return job
            assert time.monotonic() < deadline, f"{job}\n" + "\n".join(map(str, self.events(job_id)))
            time.sleep(0.05)

    def events(self, job_id: str) -> list[tuple[str, str]]:
        return [*timeline(self.engine, job_id)]

    def results(self, job_id: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(result).where(result.c.job_id == job_id)).all())

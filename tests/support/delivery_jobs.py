"""A ledger with one finished job whose results wait for delivery, without the stages before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from ledgers import open_copy
from pydicom.dataset import FileDataset

from node.config import Config
from node.deliver.association import Timeouts
from node.deliver.deliverer import RETRIES, Deliverer
from node.errors import NodeError
from node.ledger.deliveries import schedule_delivery
from node.ledger.engine import begin_immediate
from node.ledger.jobs import due_of, get_job
from node.ledger.pending_deliveries import DeliveryStatus, deliveries_of
from node.ledger.tables import delivery_instance, job, result
from node.ledger.transitions import fail_attempt
from node.spool import Spool

JOB = "job-1"
PATIENT = Timeouts(answer_seconds=20.0, store_seconds=20.0, report_seconds=10.0)
"""For peers that answer, on a machine that is busy with other tests."""


def config_for(folder: Path, port: int = 11112, **destinations: dict[str, Any]) -> Config:
    ae = {"address": "127.0.0.1", "port": port}
    return Config.model_validate({"ae": ae, "storage": {"folder": folder}, "destinations": destinations})


def destination(peer: Any, **more: Any) -> dict[str, Any]:
    """The table ``[destinations.NAME]`` for a peer with aet, host and port."""
    port = getattr(peer, "dicom_port", None) or peer.port
    return {"title": peer.aet, "host": peer.host, "port": port, **more}


@dataclass
class FinishedJob:
    """Results of one job in a spool and a ledger below ``folder``."""

    folder: Path
    datasets: Iterable[FileDataset]
    destinations: dict[str, dict[str, Any]]
    port: int = 11112
    """Of the receiver, when the test starts one."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Kinds of the results by SOP Instance UID, as ``node.results`` names them; of others nothing is known."""
    uids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = config_for(self.folder, self.port, **self.destinations)
        self.spool = Spool(self.folder)
        self.url = f"sqlite:///{self.folder / 'ledger.sqlite'}"
        self.engine = open_copy(self.url)
        with begin_immediate(self.engine) as connection:
            datasets = list(self.datasets)
            study = str(datasets[0].StudyInstanceUID) if datasets else "1.2"
            connection.execute(sa.insert(job).values(**_job(list(self.destinations), study)))
            for number, dataset in enumerate(datasets):
                connection.execute(sa.insert(result).values(**self._result(dataset, number)))
                self.uids.append(str(dataset.SOPInstanceUID))
            for name in self.destinations:
                schedule_delivery(connection, JOB, name)

    def _result(self, dataset: FileDataset, number: int) -> dict[str, Any]:
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        kept = self.spool.keep_result(JOB, str(dataset.SOPInstanceUID), buffer.getvalue())
        return {
            "sop_instance_uid": str(dataset.SOPInstanceUID),
            "job_id": JOB,
            "sop_class_uid": str(dataset.SOPClassUID),
            "transfer_syntax_uid": str(dataset.file_meta.TransferSyntaxUID),
            "series_instance_uid": str(dataset.SeriesInstanceUID),
            "description": "",
            "path": kept.path,
            "digest": kept.digest,
            "size": kept.size,
            "created_at": float(number),
            "kind": self.kinds.get(str(dataset.SOPInstanceUID)),
        }

    def deliver(self, name: str = "pacs", timeouts: Timeouts = PATIENT) -> None:
        """Deliver as the engine does, which records an attempt that failed."""
        try:
            Deliverer(self.config, self.engine, self.spool, timeouts).deliver(JOB, name)
        except NodeError as error:
            with begin_immediate(self.engine) as connection:
                for attempt in due_of(connection, get_job(connection, JOB)):
                    if attempt.subject == name:
                        fail_attempt(connection, attempt, str(error), 0.0, RETRIES, permanent=False, failure=error)
            raise

    def status(self, name: str = "pacs") -> DeliveryStatus:
        with self.engine.connect() as connection:
            return next(d for d in deliveries_of(connection, JOB) if d.destination == name)

    def answers(self) -> dict[str, tuple[int | None, str]]:
        """Status and comment per SOP Instance UID."""
        columns = delivery_instance.c
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(columns.sop_instance_uid, columns.status, columns.comment))
            return {row.sop_instance_uid: (row.status, row.comment) for row in rows}


def _job(destinations: list[str], study: str) -> dict[str, Any]:
    return {
        "id": JOB,
        "study_instance_uid": study,
        "series_instance_uid": "1.2.3",
        "generation": 1,
        "pipeline": "nodule",
        "rule": "chest",
        "destinations": destinations,
        "priority": 2,
        "state": "IN PROGRESS",
        "stage": "deliver",
        "run": 0,
        "attempt": 1,
        "outcome": "findings",
        "created_at": 1.0,
        "updated_at": 1.0,
    }

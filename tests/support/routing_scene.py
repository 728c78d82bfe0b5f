"""A node whose router is moved by hand along a clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from dicom_files import ct_series
from job_node import JobNode
from pydicom import FileDataset
from pydicom.uid import generate_uid
from stored_reasons import codes_of

from node.config import Config, parse
from node.ledger.association_endings import Ending
from node.ledger.associations import OpenAssociation, close_associations
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt, record_instances
from node.ledger.jobs import Job, list_jobs
from node.ledger.states import AssociationEnding
from node.ledger.tables import decision
from node.operate.account.report import account
from node.operate.account.rows import read
from node.reasons import reason_text
from node.routing.router import Router


class Scene:
    """A node whose router is moved by hand, along a clock that begins at ``self.at``."""

    def __init__(self, folder: Path, text: str, url: str = "") -> None:
        storage = {"folder": folder, "ledger_url": url}
        self.config = Config.model_validate({**parse(text).model_dump(), "storage": storage})
        self.node = JobNode(self.config)
        self.router = Router(self.config, self.node.engine, self.node.spool, self.node.jobs)
        self.at = time.time()
        self.study, self.frame = str(generate_uid()), str(generate_uid())

    def receive(
        self,
        images: Iterable[FileDataset] | None = None,
        contents: Mapping[int, bytes] = MappingProxyType({}),
        address: str = "10.1.2.3",
        **attributes: Any,
    ) -> str:
        """A CT series of 4 images comes from CT1 now; its Series Instance UID. All series show one region.

        ``contents``: of the files of some images, by their index, in place of what the images are.
        """
        images = list(images or ct_series(n=4, size=16, study=self.study))
        attributes.setdefault("FrameOfReferenceUID", self.frame)
        sender = OpenAssociation(
            id=str(generate_uid()),
            receiver="r",
            calling_ae="CT1",
            called_ae="AINODE",
            peer_address=address,
            opened_at=self.at,
        )
        receipts = []
        for index, dataset in enumerate(images):
            for keyword, value in attributes.items():
                setattr(dataset, keyword, value)
            buffer = BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            data = contents.get(index, buffer.getvalue())
            uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
            kept = self.node.spool.keep(*uids, [data])
            receipts.append(
                Receipt(
                    sop_instance_uid=dataset.SOPInstanceUID,
                    sop_class_uid=dataset.SOPClassUID,
                    transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
                    study_instance_uid=dataset.StudyInstanceUID,
                    series_instance_uid=dataset.SeriesInstanceUID,
                    modality=dataset.Modality,
                    path=kept.path,
                    digest=kept.digest,
                    size=kept.size,
                    conflict=False,
                    association=sender,
                    received_at=self.at,
                )
            )
        with begin_immediate(self.node.engine) as connection:
            record_instances(connection, receipts)
            close_associations(connection, [sender.id], self.at, Ending(AssociationEnding.RELEASED))
        return str(images[0].SeriesInstanceUID)

    def wait(self, seconds: float) -> None:
        self.at += seconds
        self.router.step(self.at)

    def jobs(self) -> list[Job]:
        with self.node.engine.connect() as connection:
            return list_jobs(connection)

    def decided(self) -> dict[str, tuple[str, str]]:
        """Outcome and reason by series; nothing that the router wrote is a sentence."""
        codes_of(self.node.engine)
        with self.node.engine.connect() as connection:
            rows = connection.execute(sa.select(decision).order_by(decision.c.generation))
            return {row.series_instance_uid: (row.outcome, reason_text(row.reason)) for row in rows}

    def differences(self) -> tuple[str, ...]:
        return account(read(self.node.engine), self.config.is_recipient).differences


CHEST = """
[series]
quiet_seconds = 10.0
[pipelines.scripted]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 104
[[rules]]
name = "chest"
match = { Modality = "CT" }
prefer = ["axial", { ConvolutionKernel = ["B70*", "LUNG"] }, "thinnest"]
prefer_seconds = 60.0
pipelines = ["scripted"]
destinations = ["pacs"]
"""


BRAIN = (
    CHEST.partition("[[rules]]")[0]
    + """
[[rules]]
name = "brain"
match = { SeriesDescription = "*FLAIR*" }
deadline_seconds = 600.0
companions.t1c.match = { SeriesDescription = "*T1*gd*" }
pipelines = ["scripted"]
destinations = ["pacs"]
"""
)

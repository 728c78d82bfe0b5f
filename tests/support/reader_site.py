"""A node with one analysed CT, to which readers' objects come back."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import sqlalchemy as sa
from pydicom import FileDataset, dcmread
from reader_edits import arrays_of, tracking_of

from node.feedback.collector import Collector
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.instances import Receipt, record_instances
from node.ledger.jobs import get_job, source_paths
from node.ledger.tables import reader_object, result, verdict
from node.reasons import ReasonCode, reason_text
from node.spool import Spool
from node.studies.source import SourceSeries

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


class Site:
    """A node with one analysed CT of two lesions, "Nodule 1" and "Nodule 2"."""

    def __init__(self, folder: Path, study: str, job_id: str) -> None:
        self.study, self.job_id = study, job_id
        self.engine = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.spool = Spool(folder)
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(result.c.sop_class_uid, result.c.path)).all()
        paths = {row.sop_class_uid: self.spool.absolute(row.path) for row in rows}
        self.seg, self.sr = dcmread(paths[SEG]), dcmread(paths[SR])
        with self.engine.connect() as connection:
            images = source_paths(connection, get_job(connection, job_id))
        self.source = SourceSeries.read(map(self.spool.absolute, images))
        self.masks = arrays_of(self.seg, self.source)
        self.tracking = tracking_of(self.seg)

    def receive(self, dataset: FileDataset, at: float = 5000.0) -> str:
        """As the receiver keeps and records it; return its SOP Instance UID."""
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        study, series, uid = (
            str(dataset[k].value) for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        )
        kept = self.spool.keep(study, series, uid, [buffer.getvalue()])
        receipt = Receipt(
            sop_instance_uid=uid,
            sop_class_uid=str(dataset.SOPClassUID),
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            study_instance_uid=study,
            series_instance_uid=series,
            modality=str(dataset.Modality),
            path=kept.path,
            digest=kept.digest,
            size=kept.size,
            conflict=False,
            association=None,
            received_at=at,
        )
        with begin_immediate(self.engine) as connection:
            record_instances(connection, [receipt])
        return uid

    def look(self) -> int:
        return Collector(self.engine, self.spool).step()

    def collect(self, dataset: FileDataset, at: float = 5000.0) -> dict[str, sa.Row]:
        """Receive an object and let the node read it; return the verdicts that count, by label or name."""
        self.receive(dataset, at)
        assert self.look() == 1
        return self.verdicts()

    def verdicts(self) -> dict[str, sa.Row]:
        labels = {uid: label for label, uid in self.tracking.items()}
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(verdict).where(verdict.c.superseded_at.is_(None))).all()
        return {labels.get(row.lesion, row.lesion): row for row in rows}

    def refusal(self, dataset: FileDataset) -> ReasonCode:
        """Why an object holds no verdict."""
        uid = self.receive(dataset)
        assert self.look() == 1
        assert self.verdicts() == {}
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(reader_object).where(reader_object.c.sop_instance_uid == uid)).one()
        assert row.verdicts == 0
        assert reason_text(row.reason)
        return ReasonCode(row.reason["code"])

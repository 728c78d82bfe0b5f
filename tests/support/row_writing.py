"""A row writer with its ledger and spool, and images for it to record."""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa
from dicom_files import ct_series
from ledgers import open_copy
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import encode

from node.ledger.associations import OpenAssociation
from node.ledger.instances import Receipt
from node.ledger.tables import association, instance
from node.receive.part10 import file_header
from node.receive.row_writer import RowWriter
from node.spool import Spool


class Rows:
    """A committer with its ledger and spool."""

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = open_copy(url)
        self.spool = Spool(folder / "spool")
        # A spool of its own: tests that end the process of ``spool`` release what locks its drafts.
        self.row_writer = RowWriter(self.engine, Spool(folder / "spool"))
        self.row_writer.start()

    def follow(self, count: int, series_uid: str = "1.2.3") -> list[Receipt]:
        """Keep ``count`` images of one association durably, as the receiver does, and have their rows written."""
        sender = OpenAssociation(
            id=f"a {series_uid}", receiver=self.spool.drafts.writer, calling_ae="CT", called_ae="AINODE",
            peer_address="192.0.2.1", opened_at=1.0,
        )  # fmt: skip
        receipts = []
        for dataset in ct_series(count, 16):
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2", series_uid
            draft = self.spool.drafts.new()
            header = file_header(
                sop_class_uid=CTImageStorage, sop_instance_uid=dataset.SOPInstanceUID,
                transfer_syntax_uid=ExplicitVRLittleEndian, sender="CT", receiver="AINODE",
            )  # fmt: skip
            draft.write([header, encode(dataset)])
            kept = self.spool.keep("1.2", series_uid, dataset.SOPInstanceUID, draft)
            receipts.append(
                Receipt(
                    sop_instance_uid=dataset.SOPInstanceUID, sop_class_uid=CTImageStorage,
                    transfer_syntax_uid=ExplicitVRLittleEndian, study_instance_uid="1.2",
                    series_instance_uid=series_uid, modality="CT", path=kept.path, digest=kept.digest, size=kept.size,
                    conflict=False, association=sender, received_at=time.time(),
                )
            )  # fmt: skip
            self.row_writer.record_soon(receipts[-1], draft)
        return receipts

    def written(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.scalars(sa.select(instance.c.sop_instance_uid)))

    def closed(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.scalars(sa.select(association.c.id).where(association.c.closed_at.is_not(None))))

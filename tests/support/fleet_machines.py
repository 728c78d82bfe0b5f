"""Machines with storage folders of their own that share a PostgreSQL ledger, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from certificates import Authority
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from real_peers import free_port
from receivers import encode

from node.config import Config, Fleet
from node.fleet.copy_service import CopyService
from node.fleet.file_service import serving
from node.fleet.second_copy import SentCopies
from node.ledger.associations import OpenAssociation
from node.ledger.engine import begin_immediate, now
from node.ledger.instances import Receipt
from node.membership import BEAT_SECONDS, Membership, new_member
from node.receive import Receiver
from node.receive.part10 import file_header
from node.receive.receipt_recording import record_receipts
from node.service import open_storage

STUDY, SERIES = "1.2.3", "1.2.3.4"
_IMAGES = ct_series(20, 16)
_EXTENSIONS = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n"


def issue(authority: Authority, name: str) -> None:
    """A certificate for a machine on loopback."""
    (authority.folder / "machine.ext").write_text(_EXTENSIONS)
    authority.issue(name, "-extfile", "machine.ext")


def fleet_table(authority: Authority, name: str, port: int) -> dict[str, object]:
    """``[fleet]`` of a machine on loopback."""
    if not Path(authority.pem(name)).exists():
        issue(authority, name)
    files = {"certificate": authority.pem(name), "key": authority.key(name), "ca": authority.pem("ca")}
    return {"host": "127.0.0.1", "address": "127.0.0.1", "port": port, "copies_port": free_port(), **files}


class FleetMachine:
    """One machine: its ledger, spool and file service."""

    def __init__(self, folder: Path, url: str, authority: Authority, **storage: object) -> None:
        """``storage``: more keys of its table."""
        table = {"folder": folder, "min_free_gib": 0.0, "ledger_url": url, **storage}
        fleet = fleet_table(authority, folder.name, free_port())
        ae = {"address": "127.0.0.1", "port": free_port()}
        self.config = Config.model_validate({"ae": ae, "storage": table, "fleet": fleet})
        self.engine, self.spool = open_storage(self.config)
        self._open = ExitStack()
        self._membership: Membership | None = None

    @property
    def fleet(self) -> Fleet:
        return self.config.fleet

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.fleet.port}/files/"

    def serve(self, url: str = "") -> None:
        """Begin to serve files; ``url``: the one that the others are given, of another server than the real one."""
        own = self._open.enter_context(serving(self.fleet, self.spool.folder))
        if self._membership is None:
            self._membership = Membership(self.engine, replace(new_member("files"), machine=self.spool.machine))
            self._membership.begin()
        self.copies = CopyService(self.config, self.engine, self.spool, self._membership)
        self._membership.serve_files(url or own, self._open.enter_context(self.copies.serving()))

    def rows(self, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
        """Of the ledger."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(table)))

    @contextmanager
    def receiving(self, host: str = "", beat_seconds: float = BEAT_SECONDS) -> Iterator[FleetMachine]:
        """A receiver, in this process; ``associate`` calls it by ``port``. ``host``: that it says it runs on."""
        member = replace(new_member("receiver"), machine=self.spool.machine)
        membership = Membership(self.engine, replace(member, host=host or member.host), beat_seconds)
        membership.begin()
        engine, spool = open_storage(self.config, membership.id)
        copies = SentCopies(self.fleet, engine, spool)
        receiver = Receiver(self.config, engine, spool, membership, copies=copies)
        receiver.start()
        self.held_elsewhere = lambda: membership.held_elsewhere
        try:
            yield self
        finally:
            receiver.stop(grace_seconds=2.0)
            membership.leave()
            engine.dispose()

    @property
    def port(self) -> int:
        return self.config.ae.port

    def end(self) -> None:
        """The file service ends, and its row goes."""
        if self._membership is not None:
            self._membership.leave()
        self._membership = None
        self.stop_serving()

    def stop_serving(self) -> None:
        """The services end, and the ledger does not know it yet."""
        self._open.close()

    def close(self) -> None:
        self.end()
        self.engine.dispose()

    def receive(self, count: int = 1, sender: str = "CT", value: int = 0) -> list[Receipt]:
        """Store images, at most 20, of one series and record them; ``value``: of their first pixel."""
        by = OpenAssociation(
            id=f"{self.spool.machine} {sender}", receiver="r", calling_ae=sender, called_ae="AINODE",
            peer_address="192.0.2.1", opened_at=1.0,
        )  # fmt: skip
        receipts = []
        for number, image in enumerate(_IMAGES[:count], 1):
            dataset, uid = copy(image), f"{SERIES}.{number}"
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = STUDY, SERIES, uid
            dataset.PixelData = value.to_bytes(2, "little") + dataset.PixelData[2:]
            draft = self.spool.drafts.new()
            header = file_header(
                sop_class_uid=CTImageStorage, sop_instance_uid=uid,
                transfer_syntax_uid=ExplicitVRLittleEndian, sender=sender, receiver="AINODE",
            )  # fmt: skip
            draft.write([header, encode(dataset)])
            stored = self.spool.keep(STUDY, SERIES, uid, draft)
            draft.discard()
            receipts.append(
                Receipt(
                    sop_instance_uid=uid, sop_class_uid=CTImageStorage, transfer_syntax_uid=ExplicitVRLittleEndian,
                    study_instance_uid=STUDY, series_instance_uid=SERIES, modality="CT", path=stored.path,
                    digest=stored.digest, size=stored.size, conflict=stored.status == "conflict", association=by,
                    received_at=now(),
                )
            )  # fmt: skip
        with begin_immediate(self.engine) as connection:
            record_receipts(connection, self.spool, receipts)
        return receipts

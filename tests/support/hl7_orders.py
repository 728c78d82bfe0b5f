"""Messages of an information system and the listener that takes them; python-hl7 sends them, which the node lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hl7.client import MLLPClient
from ledgers import open_copy
from real_peers import free_port

from node.config import Config
from node.orders.listener import OrderListener

STUDY = "1.2.826.0.1.3680043.8.498.4711"


def order(control: str = "1", *, kind: str = "ORM^O01", **values: str) -> str:
    """An order of HL7 2.5.1. ``values``: in place of the ones here."""
    of = {
        "code": "NW", "placer": "P1^RIS", "filler": "F1^RIS", "accession": "A1", "patient": "PAT1^^^HOSP^MR",
        "procedure": "CTCHEST^CT of the chest^L", "priority": "S", "reason": "R91.1^Solitary nodule^I10",
        "study": "", "set": "UNICODE UTF-8",
    } | values  # fmt: skip
    zds = f"ZDS|{of['study']}^RIS^Application^DICOM\r" if of["study"] else ""
    return (
        rf"MSH|^~\&|RIS|HOSPITAL|AINODE||20260101120000||{kind}|{control}|P|2.5.1||||||{of['set']}"
        "\r"
        f"PID|1||{of['patient']}||Müller^Anna||19700101|F\r"
        f"ORC|{of['code']}|{of['placer']}|{of['filler']}||||1^^^20260101120000^^{of['priority']}\r"
        f"OBR|1|{of['placer']}|{of['filler']}|{of['procedure']}||||||||||||||{of['accession']}|||||||||"
        f"1^^^^^{of['priority']}||||{of['reason']}\r{zds}"
    )


def merge(control: str, patient: str, prior: str) -> str:
    """ADT^A40: the patient ``prior`` is ``patient`` from now on."""
    head = rf"MSH|^~\&|HIS|HOSPITAL|AINODE||20260101||ADT^A40^ADT_A39|{control}|P|2.5.1||||||UNICODE UTF-8"
    return f"{head}\rEVN||20260101\rPID|1||{patient}||Müller^Anna\rMRG|{prior}\r"


def update(control: str, patient: str) -> str:
    """ADT^A08: the data of a patient have changed."""
    head = rf"MSH|^~\&|HIS|HOSPITAL|AINODE||20260101||ADT^A08^ADT_A01|{control}|P|2.5.1||||||UNICODE UTF-8"
    return f"{head}\rEVN||20260101\rPID|1||{patient}||Maier^Anna\rPV1|1|I\r"


class Listening:
    """A listener in this process, with its ledger."""

    def __init__(self, folder: Path, **orders: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        table = {"enabled": True, "address": "127.0.0.1", "port": self.port, "senders": ["127.0.0.1"], **orders}
        self.config = Config.model_validate({"storage": {"folder": folder}, "orders": table}, strict=False)
        self.engine: sa.Engine = open_copy(f"sqlite:///{folder}/ledger.sqlite")
        self.listener = OrderListener(self.config, self.engine)

    def send(self, message: str | bytes) -> str:
        """Send one message on a connection of its own and return the answer."""
        with MLLPClient("127.0.0.1", self.port) as client:
            return client.send_message(message).decode("latin-1")


@contextmanager
def listening(folder: Path, **orders: Any) -> Iterator[Listening]:
    """A listener until the end of the ``with`` block."""
    service = Listening(folder, **orders)
    with service.listener.serving():
        yield service
    service.engine.dispose()


def answer_of(acknowledgment: str) -> tuple[str, str, str]:
    """MSA-1 to MSA-3."""
    fields = [*next(line for line in acknowledgment.split("\r") if line.startswith("MSA")).split("|"), ""]
    return fields[1], fields[2], fields[3]

"""A flood, bomb series and hostile models at once, while honest studies pass: every one of them is delivered.

``AINODE_HONEST_STUDIES=100`` makes it the long run; it prints seconds from the last image to the PACS, quiet and
attacked.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series, write
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from receivers import associate_rq, deflate, encode, send
from whole_node import WholeNode

from node.errors import OperatorError
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.tables import delivery, delivery_instance, job, result, series

pytestmark = pytest.mark.rotating

HONEST = int(os.environ.get("AINODE_HONEST_STUDIES", "8"))
IMAGES = 5
PAUSE_SECONDS = 1.0
"""Between two honest studies: they come as from a scanner, and the seconds of one say nothing of a queue."""
FLOODER, BOMBER, WILD_PACS = "127.0.0.66", "127.0.0.67", "127.0.0.68"
SOCKETS = 260
WILD = ("print too much", "reply nonsense", "segv", "exit", "raise")
SQ_ITEM = bytes.fromhex("feff00e000000000")


def rules() -> str:
    wild = "\n".join(
        f'[pipelines.wild-{n}]\nfactory = "job_pipelines:create"\n[pipelines.wild-{n}.options]\ndoes = "{does}"'
        for n, does in enumerate(WILD)
    )
    names = ", ".join(f'"wild-{n}"' for n in range(len(WILD)))
    return f"""
{wild}
[[rules]]
name = "hostile models"
pipelines = [{names}]
destinations = ["pacs"]
[rules.match]
SeriesDescription = "WILD"
[[rules]]
name = "honest"
pipelines = ["bright"]
destinations = ["pacs"]
[rules.match]
SeriesDescription = "HONEST"
"""


class Attack:
    """What three addresses do until ``end``: unfinished connections, bombs, series for hostile models."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.sent: dict[str, int] = dict.fromkeys(("connections", "bombs", "wild series"), 0)
        self._threads = [
            threading.Thread(target=attack, daemon=True) for attack in (self._flood, self._bomb, self._wild)
        ]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _flood(self) -> None:
        opened: list[socket.socket] = []
        kinds = (b"", associate_rq([(CTImageStorage, [ExplicitVRLittleEndian])]), b"\1\0\0\0")
        while not self._over.wait(0.02):
            with suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", self._port), 5.0, source_address=(FLOODER, 0))
                opened.append(connection)
                connection.sendall(kinds[self.sent["connections"] % len(kinds)])
                self.sent["connections"] += 1
            if len(opened) > SOCKETS:
                opened.pop(0).close()
        for connection in opened:
            connection.close()

    def _bomb(self) -> None:
        while not self._over.wait(0.5):
            (image,) = ct_series(1, 16)
            for tag in [element.tag for element in image if element.tag > 0x00400275]:
                del image[tag]
            many = bytes.fromhex("40007502") + b"SQ\0\0" + (8_000_000).to_bytes(4, "little") + SQ_ITEM * 1_000_000
            zeros = bytes.fromhex("e17f1000") + b"OB\0\0" + (1 << 30).to_bytes(4, "little")
            bombs = (
                (ExplicitVRLittleEndian, encode(image) + many),
                (DeflatedExplicitVRLittleEndian, deflate(encode(image) + zeros + bytes(256 << 20))),
            )
            for syntax, data in bombs:
                with suppress(Exception), self._association(BOMBER, syntax) as sender:  # refused, aborted: as it may be
                    send(sender, CTImageStorage, image.SOPInstanceUID, data)
                    self.sent["bombs"] += 1

    def _wild(self) -> None:
        while not self._over.wait(2.0):
            with suppress(Exception), self._association(WILD_PACS, ExplicitVRLittleEndian) as sender:
                for image in ct_series(3, 16):
                    image.SeriesDescription = "WILD"
                    send(sender, CTImageStorage, image.SOPInstanceUID, encode(image))
                self.sent["wild series"] += 1

    @contextmanager
    def _association(self, address: str, syntax: str) -> Iterator[Association]:
        entity = AE(ae_title="ATTACKER")
        contexts = [build_context(CTImageStorage, syntax)]
        sender = entity.associate("127.0.0.1", self._port, contexts, ae_title="AINODE", bind_address=(address, 0))
        assert sender.is_established
        try:
            yield sender
        finally:
            sender.abort()


def honest_study(folder: Path) -> str:
    volume = np.full((IMAGES, 32, 32), -800, np.int32)
    volume[2:4, 10:16, 10:16] = 1000
    images = ct_series(volume=volume)
    for image in images:
        image.SeriesDescription = "HONEST"
    write(images, folder)
    return str(images[0].StudyInstanceUID)


def pass_through(node: WholeNode, folder: Path, count: int) -> list[str]:
    """Send studies one after the other; every one must be taken at once."""
    studies = []
    for number in range(count):
        studies.append(honest_study(folder / str(number)))
        sent = real_peers.dcmtk(
            "storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder / str(number), check=False
        )
        assert sent.returncode == 0, sent.stderr + node.log()[-3000:]
        time.sleep(PAUSE_SECONDS)
    return studies


def seconds_to_pacs(node: WholeNode, studies: list[str], deadline: float) -> list[float]:
    """From the last image of each study to the C-STORE response for its last result."""
    query = (
        sa.select(series.c.study_instance_uid, series.c.last_at, sa.func.max(delivery_instance.c.sent_at).label("at"))
        .join(job, job.c.series_instance_uid == series.c.series_instance_uid)
        .join(delivery, delivery.c.job_id == job.c.id)
        .join(result, result.c.job_id == job.c.id)
        .join(delivery_instance, delivery_instance.c.sop_instance_uid == result.c.sop_instance_uid)
        .where(series.c.study_instance_uid.in_(studies), delivery.c.state.in_(("STORED", "CONFIRMED")))
        .group_by(series.c.study_instance_uid, series.c.last_at)
    )
    engine = open_ledger(ledger_url("", node.folder))
    try:
        while True:
            with engine.connect() as connection:
                rows = connection.execute(query).all()
            if len(rows) == len(studies):
                return sorted(row.at - row.last_at for row in rows)
            assert time.monotonic() < deadline, f"{len(rows)} of {len(studies)} delivered\n{node.log()[-3000:]}"
            time.sleep(1.0)
    finally:
        engine.dispose()


@pytest.mark.timeout(1500)
def test_honest_studies_pass_through_a_flood_bombs_and_hostile_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with real_peers.orthanc(tmp_path) as pacs:
        node = WholeNode(tmp_path / "node", pacs.dicom_port)
        text = node.config.read_text()
        node.config.write_text(text[: text.index("[[rules]]")] + rules())
        node.start()
        attack = Attack(node.port)
        try:
            quiet = seconds_to_pacs(node, pass_through(node, tmp_path / "quiet", HONEST), time.monotonic() + 300.0)
            attack.begin()
            studies = pass_through(node, tmp_path / "attacked", HONEST)
            attacked = seconds_to_pacs(node, studies, time.monotonic() + 300.0)
            attack.end()
            account = node.ainode("account")
            engine = open_ledger(ledger_url("", node.folder))
            with engine.connect() as connection:
                made = set(
                    connection.scalars(
                        sa.select(result.c.sop_instance_uid)
                        .join(job, job.c.id == result.c.job_id)
                        .where(job.c.pipeline == "bright")
                    )
                )
            engine.dispose()
            held = pacs.instances()
        finally:
            attack.end()
            node.kill()
    table = "\n".join(
        f"{name:9}{len(seconds)} of {HONEST}; seconds to the PACS: median {np.median(seconds):.1f}, "
        f"p99 {np.percentile(seconds, 99):.1f}"
        for name, seconds in (("quiet", quiet), ("attacked", attacked))
    )
    with capsys.disabled():
        print(f"\n{table}\n{attack.sent}")  # noqa: T201 - the proof is shown
    assert min(attack.sent.values()) > 0
    assert made <= set(held)
    assert "Everything is accounted for." in account.stdout
    assert account.returncode in (0, OperatorError.exit_code), "what was refused of the attacker needs an operator"

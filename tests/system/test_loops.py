"""Results are not analysed again, whoever made them and whatever an archive has rewritten: no loop ever begins."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import real_peers
from analyses import analysis, halved, source_of, two_lesions
from dicom_files import ct_series, write
from pydicom import Dataset, FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt
from whole_node import WholeNode

from node.config import FORWARD, Rule
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.jobs import Job, list_jobs
from node.ledger.tables import decision
from node.operate.account.report import account
from node.operate.account.rows import read
from node.pipeline import Findings
from node.reasons import reason_text
from node.results.encode import encode
from node.routing.rules import Origin, SeriesHeader, decide
from node.studies.result_mark import result_mark

pytestmark = pytest.mark.rotating

SETTLED_SECONDS = 12.0
"""Four quiet periods: what has not been analysed again by then never is."""


class LoopNode(WholeNode):
    """A node that copies every CT series, sends the copy to one destination, and what it received as well."""

    def __init__(self, folder: Path, destination_port: int, title: str) -> None:
        super().__init__(folder, destination_port, title)
        text = self.config.read_text().replace("bright_pipeline:create", "copying_pipeline:create")
        self.config.write_text(text.replace('destinations = ["pacs"]', 'destinations = ["pacs"]\nsend = ["pacs"]'))

    def jobs(self) -> list[Job]:
        engine = open_ledger(ledger_url("", self.folder))
        with engine.connect() as connection:
            listed = list_jobs(connection, limit=None)
        engine.dispose()
        return listed

    def reasons(self) -> list[tuple[str, str]]:
        """Outcome and reason of every decision."""
        engine = open_ledger(ledger_url("", self.folder))
        with engine.connect() as connection:
            rows = connection.execute(decision.select().order_by(decision.c.decided_at)).all()
        engine.dispose()
        return [(row.outcome, reason_text(row.reason)) for row in rows]

    def differences(self) -> tuple[str, ...]:
        engine = open_ledger(ledger_url("", self.folder))
        differences = account(read(engine), lambda *_: True).differences
        engine.dispose()
        return differences


@contextmanager
def started(*nodes: LoopNode) -> Iterator[None]:
    try:
        for node in nodes:
            node.start()
        yield
    finally:
        for node in nodes:
            node.kill()


def send_from_scanner(node: WholeNode, folder: Path) -> None:
    paths = write(ct_series(4, 32), folder)
    command = ["storescu", "-aet", "CT1", "-aec", "AINODE", "127.0.0.1", str(node.port)]
    subprocess.run([*command, *map(str, paths)], check=True, capture_output=True)


def until(condition: Callable[[], object], *nodes: WholeNode, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "\n".join(node.log()[-3000:] for node in nodes)
        time.sleep(0.3)


class CoercingPacs:
    """Gives every object other UIDs, another patient and institution, and sends it back to the node at once."""

    def __init__(self, node_port: int) -> None:
        self.port = real_peers.free_port()
        self.taken: list[Dataset] = []
        self._node_port = node_port
        self._uids: dict[str, str] = {}
        self._lock = threading.Lock()
        self._entity = AE(ae_title="PACS")
        self._entity.supported_contexts = AllStoragePresentationContexts
        self._entity.requested_contexts = AllStoragePresentationContexts[:128]

    def __enter__(self) -> Self:
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = self._entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.taken.append(dataset)
        threading.Thread(target=self._send_back, args=(dataset,), daemon=True).start()
        return 0x0000

    def _send_back(self, dataset: FileDataset) -> None:
        with self._lock:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
                if keyword in dataset:
                    setattr(dataset, keyword, self._uids.setdefault(dataset[keyword].value, generate_uid()))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID, dataset.PatientName = "ARCHIVE-7", "Archive^Patient"
            dataset.InstitutionName, dataset.StationName, dataset.AccessionNumber = "Archive", "GATE", "A1"
            dataset.InstanceCreationDate = "20200101"
            context = [c for c in AllStoragePresentationContexts if c.abstract_syntax == dataset.SOPClassUID]
            entity = AE(ae_title="PACS")
            peer = entity.associate("127.0.0.1", self._node_port, context, ae_title="AINODE")
            assert peer.is_established
            peer.send_c_store(dataset)
            peer.release()


def analyses(node: LoopNode) -> int:
    return sum(job.pipeline != FORWARD for job in node.jobs())


def test_an_archive_that_rewrites_uids_and_sends_everything_back_has_nothing_analysed_again(tmp_path: Path) -> None:
    port = real_peers.free_port()
    with CoercingPacs(port) as pacs:
        node = LoopNode(tmp_path / "node", pacs.port, "PACS")
        node.config.write_text(node.config.read_text().replace(f"port = {node.port}", f"port = {port}", 1))
        node.port = port
        with started(node):
            send_from_scanner(node, tmp_path / "images")
            # the images that were sent on come back as another study: the archive has hidden that they are known
            until(lambda: analyses(node) >= 2 and len(pacs.taken) >= 12, node)
            until(lambda: sum("AI node" in reason for _, reason in node.reasons()) >= 2, node)
            time.sleep(SETTLED_SECONDS)
            assert analyses(node) == 2, node.reasons()
            assert len(pacs.taken) == 12, "4 images sent on, 4 copies of them, 4 copies of those that came back"
            told = [reason for outcome, reason in node.reasons() if outcome == "ignored"]
            assert told == ["it is a result of an AI node (Manufacturer)"] * 2
            assert node.differences() == ()


def test_two_nodes_that_send_everything_to_one_another_come_to_rest(tmp_path: Path) -> None:
    first, second = LoopNode(tmp_path / "a", 65000, "AINODE"), LoopNode(tmp_path / "b", 65001, "AINODE")
    for node, other, placeholder in ((first, second, 65000), (second, first, 65001)):
        node.config.write_text(node.config.read_text().replace(f"port = {placeholder}", f"port = {other.port}"))
    with started(first, second):
        send_from_scanner(first, tmp_path / "images")
        until(lambda: len(first.reasons()) == len(second.reasons()) == 2, first, second)
        time.sleep(SETTLED_SECONDS)
        for node in (first, second):
            assert analyses(node) == 1, node.reasons()
            assert len(node.reasons()) == 2
            assert ("ignored", "it is a result of an AI node (Manufacturer)") in node.reasons()
            assert node.differences() == ()
        assert [job.pipeline for job in first.jobs() if job.pipeline == FORWARD] == [FORWARD]
        assert [job.pipeline for job in second.jobs() if job.pipeline == FORWARD] == []


RULE = Rule.model_validate(
    {"name": "CT", "match": {"Modality": "CT"}, "pipelines": ("one",), "destinations": ("pacs",)}
)


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> FileDataset:
    """One image of a derived series."""
    source = source_of(tmp_path_factory.mktemp("source"), ct_series(4, 32))
    findings = Findings(lesions=two_lesions(source).lesions, derived=halved(source).derived)
    return next(o.dataset for o in encode(analysis(findings), source) if o.kind == "derived")


def drop(*keywords: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return change


def rewrite(**values: Any) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


COERCED: dict[str, Callable[[Dataset], None]] = {
    "as it was": drop(),
    "other UIDs and patient": rewrite(
        StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID="1.4", PatientID="X", PatientName="Y"
    ),
    "other institution, station and description": rewrite(
        InstitutionName="A", StationName="B", SeriesDescription="C", DerivationDescription="D", ImageType=["ORIGINAL"]
    ),
    "manufacturer in other letters": rewrite(Manufacturer="AI NODE "),
    "manufacturer lost": drop("Manufacturer", "ManufacturerModelName"),
    "contributing equipment lost": drop("ContributingEquipmentSequence", "DeviceSerialNumber"),
    "only the versions are left": drop("Manufacturer", "ManufacturerModelName", "ContributingEquipmentSequence"),
    "only the contributing equipment is left": drop("Manufacturer", "ManufacturerModelName", "SoftwareVersions"),
    "manufacturer of who processed it since": rewrite(Manufacturer="Other", SoftwareVersions="VX 1"),
}


@pytest.mark.parametrize("how", COERCED)
def test_a_result_is_known_by_any_mark_that_is_left(derived: FileDataset, how: str) -> None:
    dataset = Dataset()
    dataset.update(derived)
    COERCED[how](dataset)
    verdict = decide(SeriesHeader.of([dataset]), [RULE], Origin())
    assert (verdict.outcome, verdict.routes) == ("ignored", ())
    assert reason_text(verdict.reason).startswith("it is a result of an AI node (")
    sent = RULE.model_copy(update={"send": ("archive",)})
    assert [route.pipeline for route in decide(SeriesHeader.of([dataset]), [sent], Origin()).routes] == [FORWARD]


def contributor(**values: str) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


SCANNERS: dict[str, Callable[[Dataset], None]] = {
    "a scanner": drop(),
    "a scanner with a reconstruction of another maker": rewrite(
        ContributingEquipmentSequence=[
            contributor(Manufacturer="Other AI", ManufacturerModelName="Denoiser", SoftwareVersions="2.0"),
            contributor(Manufacturer="AI nodes Inc."),
            contributor(SoftwareVersions="ainodes"),
        ]
    ),
    "derived by the scanner": rewrite(ImageType=["DERIVED", "SECONDARY", "MPR"], DerivationDescription="MPR"),
    "empty and odd equipment": rewrite(ContributingEquipmentSequence=[Dataset()], Manufacturer=None),
    "software of a similar name": rewrite(SoftwareVersions=["syngo ainode 3", "ainodeX 1"]),
}


@pytest.mark.parametrize("which", SCANNERS)
def test_images_of_scanners_are_analysed_whatever_equipment_they_name(which: str) -> None:
    image = ct_series(1, 16)[0]
    SCANNERS[which](image)
    assert result_mark(image) == ""
    assert decide(SeriesHeader.of([image]), [RULE], Origin()).outcome == "routed"


def test_images_are_not_sent_back_to_where_they_came_from() -> None:
    image = ct_series(1, 16)[0]
    rule = Rule.model_validate({"name": "on", "send": ("pacs", "archive")})
    back = decide(SeriesHeader.of([image]), [rule], Origin(destinations=frozenset({"pacs"})))
    assert [(route.pipeline, route.destinations) for route in back.routes] == [(FORWARD, ("archive",))]
    only = decide(SeriesHeader.of([image]), [rule], Origin(destinations=frozenset({"pacs", "archive"})))
    assert (only.outcome, reason_text(only.reason)) == ("ignored", "it would only be sent back to where it came from")
    assert only.routes == ()
    both = decide(SeriesHeader.of([image]), [RULE, rule], Origin(destinations=frozenset({"pacs", "archive"})))
    assert (both.outcome, reason_text(both.reason)) == ("routed", "matches 'CT'")
    assert [entry["pipelines"] for entry in both.trace if entry["chosen"]] == [["one"]]

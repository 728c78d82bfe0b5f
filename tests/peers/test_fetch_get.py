"""`ainode fetch` by C-GET: real archives that cannot connect to the node send on its own association."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_peers
from dcmqr_archive import dcmqrscp
from dicom_files import ct_series, write
from fetching import Fetching
from lines import Line
from pydicom import FileDataset
from pydicom.uid import CTImageStorage
from receivers import receiving

from node.deliver.get_contexts import MOST_STORAGE_CONTEXTS, get_contexts
from node.errors import DeliveryError
from node.ledger.tables import conflict
from node.receive.policy import STANDARD_STORAGE, TRANSFER_SYNTAXES


def archived(images: list[FileDataset], folder: Path, title: str, port: int) -> set[str]:
    for image in images:
        image.AccessionNumber = "A1"
    real_peers.dcmtk("storescu", "-aec", title, "+sd", "127.0.0.1", port, *{p.parent for p in write(images, folder)})
    return {str(image.SOPInstanceUID) for image in images}


def test_orthanc_sends_a_series_that_it_could_not_send_by_c_move(tmp_path: Path) -> None:
    with receiving(tmp_path / "node") as node, real_peers.orthanc(tmp_path, {"STORESCU": 1, "AINODE": 1}) as archive:
        uids = archived(ct_series(n=4), tmp_path / "scanner", "ORTHANC", archive.dicom_port)
        fetching = Fetching(tmp_path, node, "ORTHANC", archive.dicom_port)
        fetched = fetching.fetch("--accession", "A1")
        assert fetched.exit_code == 0, fetched.output
        assert "4 of 4 images" in fetched.output
        assert fetching.here() == uids
        assert "0 series fetched" in fetching.fetch("--accession", "A1").output
        assert list(node.spool.folder.glob("temporary/*/*")) == []


def test_dcmtk_sends_a_series_too(tmp_path: Path) -> None:
    with receiving(tmp_path / "node") as node, dcmqrscp(tmp_path / "qr") as port:
        uids = archived(ct_series(n=3), tmp_path / "scanner", "QRSCP", port)
        fetching = Fetching(tmp_path, node, "QRSCP", port)
        fetched = fetching.fetch("--accession", "A1")
        assert fetched.exit_code == 0, fetched.output
        assert fetching.here() == uids


def test_a_line_that_breaks_amid_a_series_loses_and_doubles_no_image(tmp_path: Path) -> None:
    with receiving(tmp_path / "node") as node, real_peers.orthanc(tmp_path, {"STORESCU": 1, "AINODE": 1}) as archive:
        uids = archived(ct_series(n=12, size=128), tmp_path / "scanner", "ORTHANC", archive.dicom_port)
        line = Line(archive.dicom_port, [100_000, 250_000])
        fetching = Fetching(tmp_path, node, "ORTHANC", line.port)
        held = [len(fetching.here())]
        for _ in range(2):
            broken = fetching.fetch("--accession", "A1")
            assert broken.exit_code == DeliveryError.exit_code, broken.output
            assert "C-GET did not end" in broken.output
            held.append(len(fetching.here()))
        assert held[0] < held[1] < held[2] < 12
        last = fetching.fetch("--accession", "A1")
        assert (last.exit_code, line.breaks) == (0, 2), last.output
        assert fetching.here() == uids
        assert node.rows(conflict) == []
        line.close()


def test_what_the_receiver_refuses_is_accounted_for(tmp_path: Path) -> None:
    with (
        receiving(tmp_path / "node", storage="min_free_gib = 0.0\nmax_instance_gib = 0.00001") as node,
        real_peers.orthanc(tmp_path, {"STORESCU": 1, "AINODE": 1}) as archive,
    ):
        archived(ct_series(n=2, size=128), tmp_path / "scanner", "ORTHANC", archive.dicom_port)
        fetching = Fetching(tmp_path, node, "ORTHANC", archive.dicom_port)
        failed = fetching.fetch("--accession", "A1")
        assert failed.exit_code == DeliveryError.exit_code
        assert "2 images were not stored" in failed.output
        assert fetching.here() == set()


@pytest.mark.parametrize("classes", [{CTImageStorage}, set(), set(STANDARD_STORAGE)], ids=["one", "unknown", "all"])
def test_no_more_contexts_are_proposed_than_an_association_has(classes: set[str]) -> None:
    contexts = get_contexts(classes, TRANSFER_SYNTAXES)
    assert 0 < len(contexts) <= MOST_STORAGE_CONTEXTS
    if len(classes) == 1:
        assert {context.transfer_syntax[0] for context in contexts} == {*TRANSFER_SYNTAXES}

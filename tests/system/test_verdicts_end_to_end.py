"""The PACS answers back: a whole node sends its result to Orthanc, and Orthanc forwards what a reader made of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom.uid import generate_uid
from reader_edits import arrays_of, cube, workstation_seg
from whole_node import WholeNode, whole_node

from node.studies.source import SourceSeries

pytestmark = pytest.mark.rotating

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, pacs: real_peers.Orthanc) -> Iterator[WholeNode]:
    with whole_node(tmp_path / "node", pacs.dicom_port) as running:
        yield running


def verdicts(node: WholeNode, study: str) -> list[str]:
    return [event["detail"] for event in node.explain(study)["timeline"] if event["what"] == "verdicts of a reader"]


def test_a_segmentation_that_a_reader_edited_comes_back_from_the_pacs_as_verdicts(
    node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path
):
    study = generate_uid()
    images = ct_series(volume=with_lesion((8, 64, 64)), study=study)
    files = write(images, tmp_path / "ct")
    real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, tmp_path / "ct")
    node.finished(study, jobs=1)
    stored = [pacs.download(uid) for uid in pacs.instances()]
    (ours,) = [dataset for dataset in stored if dataset.SOPClassUID == SEG]
    source = SourceSeries.read(files)
    ((label, mask),) = arrays_of(ours, source).items()
    smaller = mask.copy()
    smaller[:, smaller.any((0, 2)).argmax(), :] = 0
    edited = workstation_seg(source, {label: smaller, "Missed": cube(mask.shape, (5, 50, 50), (7, 56, 57))})
    edited.save_as(tmp_path / "edited.dcm", enforce_file_format=True)
    address = {"AET": "AINODE", "Host": "127.0.0.1", "Port": node.port}
    pacs._open("/modalities/node", json.dumps(address).encode(), method="PUT")
    kept = json.loads(pacs._open("/instances", (tmp_path / "edited.dcm").read_bytes()))
    pacs.post("/modalities/node/store", [kept["ID"]])
    deadline = time.monotonic() + 120.0
    while not verdicts(node, study):
        assert time.monotonic() < deadline, node.log()
        time.sleep(0.5)
    assert verdicts(node, study) == ["segmentation: 1 edited, 1 added"]
    (row,) = json.loads(node.ainode("quality", "--json").stdout)
    assert (row["pipeline"], row["version"], row["edited"], row["added"]) == ("bright", "1.0", 1, 1)
    assert len(pacs.instances()) == len(stored) + 1  # what a reader made is not sent on

"""Two views of a chest, sent by dcmtk to a whole node: a box on the one that was analysed comes to a real PACS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import write
from lesion_studies import SR3D, results, store
from projections import chest_xray
from whole_node import WholeNode, whole_node

from node.results.report_items import measurement_groups

EXTRA = """
[pipelines.masses]
factory = "image_pipelines:create"
[[rules]]
name = "radiographs"
pipelines = ["masses"]
destinations = ["pacs"]
[rules.match]
Modality = "DX"
"""


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, pacs: real_peers.Orthanc) -> Iterator[WholeNode]:
    with whole_node(tmp_path / "node", pacs.dicom_port, extra=EXTRA) as running:
        yield running


def test_a_box_on_the_view_that_was_analysed_comes_back(node: WholeNode, pacs: real_peers.Orthanc, tmp_path: Path):
    behind, side = chest_xray(200, 180, bright=(slice(40, 41), slice(100, 101))), chest_xray(190, 170, view="LL")
    side.StudyInstanceUID, side.SeriesInstanceUID = behind.StudyInstanceUID, behind.SeriesInstanceUID
    side.InstanceNumber = 2
    write([side, behind], tmp_path / "scan")
    store(node, tmp_path / "scan", "-xs")
    held = results(node.finished(behind.StudyInstanceUID, jobs=1), pacs)
    assert {uid: len(objects) for uid, objects in held.items()} == {SR3D: 1}
    (report,) = held[SR3D]
    (group,) = measurement_groups(report)
    (box,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
    assert box.GraphicData == [97, 37, 104, 37, 104, 44, 97, 44, 97, 37]
    assert box.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == behind.SOPInstanceUID
    assert side.SOPInstanceUID not in report.to_json()
    assert "1 image not analysed: its view is LL, needed is AP or PA." in report.to_json()

"""Two studies of one patient go through a whole node and a real PACS: what the second report says of growth is true."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path

import follow_up
import numpy as np
import pytest
import real_peers
from analyses import walked
from dicom_files import write
from follow_up import BALLS, DAYS, Ball
from lesion_studies import SR3D, results, store
from pydicom import Dataset, FileDataset
from pydicom.sr.codedict import codes
from whole_node import WholeNode

from node.results.identity import plain
from node.results.prior.lesion_matching import CHANGE, DOUBLING_TIME, EARLIER_VOLUME
from node.wording import quantity

pytestmark = pytest.mark.rotating

VOXELS = 0.08
"""Part of the volume by which the voxels of a ball may miss it."""


def analysed(node: WholeNode, pacs: real_peers.Orthanc, images: list[FileDataset], folder: Path) -> FileDataset:
    """The report that the PACS has got of these images."""
    write(images, folder)
    store(node, folder)
    (report,) = results(node.finished(images[0].StudyInstanceUID, jobs=1, seconds=240.0), pacs)[SR3D]
    return report


def lesions(report: Dataset) -> dict[str, dict[str, float]]:
    """Tracking UID -> code value -> number."""
    measured: dict[str, dict[str, float]] = {}
    for group in walked(report):
        names = {str(child.get("UID", "")) for child in group.get("ContentSequence") or []} - {""}
        for item in group.get("ContentSequence") or []:
            if item.ValueType == "NUM" and names:
                number = float(item.MeasuredValueSequence[0].NumericValue)
                measured.setdefault(min(names), {})[str(item.ConceptNameCodeSequence[0].CodeValue)] = number
    return measured


def by_volume(found: dict[str, dict[str, float]], mm3: float) -> tuple[str, dict[str, float]]:
    """The one lesion of that volume."""
    ((uid, numbers),) = (
        (uid, numbers)
        for uid, numbers in found.items()
        if numbers[codes.SCT.Volume.value] == pytest.approx(mm3, rel=VOXELS)
    )
    return uid, numbers


@pytest.mark.parametrize("body", [follow_up.phantom, follow_up.real_chest])
def test_the_second_report_tells_the_true_growth_of_each_lesion(tmp_path: Path, body: Callable[[], np.ndarray]):
    hu = body()
    with real_peers.orthanc(tmp_path) as pacs:
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra='objects = ["seg", "sr"]')
        asks = 'pipelines = ["bright"]\nprior = { source = "pacs" }'
        node.config.write_text(node.config.read_text().replace('pipelines = ["bright"]', asks))
        try:
            node.start()
            before = lesions(analysed(node, pacs, follow_up.study(hu, later=False), tmp_path / "then"))
            report = analysed(node, pacs, follow_up.study(hu, later=True), tmp_path / "now")
        finally:
            node.kill()
    now = lesions(report)
    remarks = [str(item.TextValue) for item in walked(report) if "TextValue" in item]
    for ball in BALLS:
        _check(ball, before, now, "\n".join(remarks))
    assert any(f"{DAYS} days before" in remark for remark in remarks)


def _check(ball: Ball, before: dict[str, dict[str, float]], now: dict[str, dict[str, float]], remarks: str) -> None:
    then_mm3, now_mm3 = ball.volume(ball.radius_then), ball.volume(ball.radius_now)
    if not now_mm3:
        uid, numbers = by_volume(before, then_mm3)
        assert uid not in now
        assert f"Not reported now: 1 finding of {plain(quantity(numbers[codes.SCT.Volume.value], 'mm3'))}." in remarks
        return
    uid, numbers = by_volume(now, now_mm3)
    if not then_mm3:
        assert uid not in before
        assert CHANGE.value not in numbers
        assert remarks.count(": not reported earlier") == 1
        return
    assert uid == by_volume(before, then_mm3)[0]
    assert numbers[EARLIER_VOLUME.value] == before[uid][codes.SCT.Volume.value]
    assert numbers[CHANGE.value] == pytest.approx(100 * (now_mm3 / then_mm3 - 1), abs=100 * VOXELS * now_mm3 / then_mm3)
    if now_mm3 > then_mm3:
        assert numbers[DOUBLING_TIME.value] == pytest.approx(
            DAYS * log(2) / log(now_mm3 / then_mm3), rel=VOXELS / log(2)
        )
    else:
        assert DOUBLING_TIME.value not in numbers

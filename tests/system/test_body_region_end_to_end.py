"""A chest CT that is labelled ABDOMEN reaches the pipeline for chests of a whole node, sent by storescu."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_peers
from body_region_series import chest_series
from dicom_files import ct_series, write
from lesion_studies import store
from receivers import until
from whole_node import WholeNode

pytestmark = pytest.mark.rotating

MATCH = '[rules.match]\nModality = ["CT", "MR"]\n'


def test_the_region_in_the_pixels_decides_and_broken_pixels_keep_nothing_waiting(tmp_path: Path) -> None:
    chest, noise, broken = (chest_series(BodyPartExamined="ABDOMEN"), ct_series(4, 32), chest_series())
    for image in broken:
        image.PixelData = image.PixelData[:200]
    with real_peers.orthanc(tmp_path) as pacs:
        node = WholeNode(tmp_path / "node", pacs.dicom_port)
        text = node.config.read_text()
        assert MATCH in text
        node.config.write_text(text.replace(MATCH, f'{MATCH}body_region = "chest"\n'))
        try:
            node.start()
            for number, images in enumerate((chest, noise, broken)):
                write(images, tmp_path / str(number))
                store(node, tmp_path / str(number))
            (series,) = node.finished(chest[0].StudyInstanceUID, 1, seconds=300.0)["series"]
            explained = node.ainode("explain", chest[0].StudyInstanceUID).stdout
            uids = [images[0].StudyInstanceUID for images in (noise, broken)]
            until(lambda: all("ignored" in str(node.explain(uid)) for uid in uids), 300.0)
            others = [node.ainode("explain", uid).stdout for uid in uids]
            tested = node.ainode("rules", "test", "--config", node.config, tmp_path / "0").stdout
        finally:
            node.kill()
    assert [job["pipeline"] for job in series["jobs"]] == ["bright"]
    assert "body_region chest (likely: pixels chest " in explained
    assert "BodyPartExamined ABDOMEN; header and pixels disagree" in explained
    assert "body_region chest (likely" in tested
    for other, why in zip(others, ("unclear 4 of 4 slices", "cannot be decoded"), strict=True):
        assert "body_region unknown (pixels " in other
        assert why in other

"""The examples of the page on radiographs and mammograms run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from analyses import source_of
from dicom_files import write
from projections import chest_xray, mammogram

from node.config import PipelineTable
from node.inference.plugins import load_pipeline
from node.inference.run_pipeline import analyse
from node.pipeline import Findings
from node.studies.source import SourceSeries

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-pipeline.md").read_text(encoding="utf-8")


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: SourceSeries) -> tuple[str, str, Findings]:
    """Outcome, reason and findings of the example with the class ``name``."""
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = (example for example in examples if f"class {name}:" in example)
    module = f"{name.lower()}_of_the_page"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    pipeline = load_pipeline(name.lower(), PipelineTable(factory=f"{module}:create"), "cpu")
    return analyse(pipeline, source)


def test_the_radiograph_of_the_page_has_a_box_round_its_opacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opacity = chest_xray(200, 180, bright=(slice(40, 70), slice(100, 140)))
    source = source_of(tmp_path / "scan", [opacity])
    outcome, _, findings = run(tmp_path, monkeypatch, "Opacities", source)
    assert outcome == "findings"
    (region,) = findings.regions
    (left, top), (right, bottom) = region.shape.points[0], region.shape.points[2]
    assert (left, top, right, bottom) == pytest.approx((100, 40, 140, 70), abs=3)
    assert findings.assertions[0].presence == "present"


def test_a_normal_radiograph_of_the_page_has_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outcome, _, findings = run(tmp_path, monkeypatch, "Opacities", source_of(tmp_path / "scan", [chest_xray()]))
    assert (outcome, findings.regions) == ("no findings", ())


def test_a_lateral_view_is_not_applicable_to_the_radiograph_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outcome, reason, _ = run(tmp_path, monkeypatch, "Opacities", source_of(tmp_path / "scan", [chest_xray(view="LL")]))
    assert (outcome, reason) == ("not applicable", "1 image not analysed: its view is LL, needed is AP or PA")


def test_the_lungs_of_the_page_are_masks_on_the_radiograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = source_of(tmp_path / "scan", [chest_xray(200, 180)])
    outcome, _, findings = run(tmp_path, monkeypatch, "Lungs", source)
    (lungs,) = findings.regions
    assert (outcome, lungs.mask.shape, lungs.landmark) == ("measured", (200, 180), True)
    dark = source.images()[0].grey() < 0.4
    assert (lungs.mask & dark).sum() > 0.9 * lungs.mask.sum()


def test_the_mammograms_of_the_page_have_sides_points_and_a_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    right, left = mammogram(side="R", spot=(30, 40)), mammogram(side="L", view="CC", spot=(50, 60))
    left.StudyInstanceUID, left.SeriesInstanceUID = right.StudyInstanceUID, right.SeriesInstanceUID
    left.InstanceNumber = 2
    source = SourceSeries.read(write([right, left], tmp_path / "scan"))
    outcome, _, findings = run(tmp_path, monkeypatch, "Calcifications", source)
    assert outcome == "findings"
    spots = {region.label: region for region in findings.positive_regions}
    assert {name: region.laterality.meaning for name, region in spots.items() if region.laterality} == {
        "Calcification 1 (R MLO)": "Right",
        "Calcification 2 (L CC)": "Left",
    }
    assert [region.shape.sop_instance_uid for region in spots.values()] == [right.SOPInstanceUID, left.SOPInstanceUID]
    assert spots["Calcification 1 (R MLO)"].shape.points == ((40.5, 30.5),)
    (distance,) = findings.groups[0].measurements
    assert distance.value == pytest.approx(0.1 * ((85 - 40.5) ** 2 + (60 - 30.5) ** 2) ** 0.5)

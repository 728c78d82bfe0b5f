"""Results on radiographs, mammograms and cine loops, as the validators of others judge them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from dicom_files import write
from projections import chest_xray, cine, mammogram
from pydicom import FileDataset, dcmread
from tomosynthesis import tomosynthesis

from node.config import PipelineTable
from node.inference.try_pipeline import run_trial
from node.results.report_items import measurement_groups

KINDS = ("sr", "pdf", "key images", "presentation state", "key object selection")


def two_views() -> list[FileDataset]:
    """A chest from behind with an opacity, then from the side, in one series."""
    behind, side = chest_xray(200, 180, bright=(slice(40, 70), slice(100, 140))), chest_xray(190, 170, view="LL")
    side.StudyInstanceUID, side.SeriesInstanceUID = behind.StudyInstanceUID, behind.SeriesInstanceUID
    side.InstanceNumber = 2
    return [behind, side]


IMAGES = {
    "Opacities": two_views,
    "Calcifications": lambda: [mammogram(spot=(30, 40))],
}


def errors(program: str, *paths: Path) -> list[str]:
    command = [Path(sys.executable).with_name(program), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


MASKS = """
import numpy as np
from node.pipeline import Algorithm, Findings, Needs, Region, codes


class Spots:
    needs = Needs(modalities={"DX", "MG", "US"}, images=True)
    algorithm = Algorithm(name="Spots", version="1.0")

    def run(self, series):
        regions = []
        for number, image in enumerate(series.images(), 1):
            mask = np.zeros((image.rows, image.columns), bool)
            mask[10:30, 12:30] = True
            mask[15:18, 16:20] = False
            regions += [
                Region.outlined(mask, on=image, label=f"Opacity {number}", finding=codes.DCM.Opacity, probability=0.9),
                Region.outlined(~mask, on=image, label=f"Rest {number}", finding=codes.SCT.Breast, landmark=True),
            ]
        return Findings(regions=tuple(regions))


def create(*, weights, device, options):
    return Spots()
"""


@pytest.mark.parametrize("name", ["radiographs", "mammogram", "loop"])
def test_segmentations_of_images_without_a_volume_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    images = {"radiographs": two_views, "mammogram": lambda: [mammogram()], "loop": lambda: [cine(rows=41, columns=61)]}
    (tmp_path / f"spots_on_{name}.py").write_text(MASKS)
    monkeypatch.syspath_prepend(tmp_path)
    received = write(images[name](), tmp_path / "in")
    table = PipelineTable(factory=f"spots_on_{name}:create")
    kinds = ("image seg", *KINDS)
    trial = run_trial(name, table, tmp_path / "in", tmp_path / "out", device="cpu", progress=print, kinds=kinds)
    (analysed,) = trial.series
    assert (analysed.outcome, analysed.fault) == ("findings", "")
    segmentations = [path for path in analysed.files if path.name.endswith("-image seg.dcm")]
    assert len(segmentations) == len(received)
    assert [errors("dciodvfy", path) for path in analysed.files] == [[]] * len(analysed.files)
    assert errors("dcentvfy", *received, *analysed.files) == []


SLICES = """
import numpy as np
from node.pipeline import Algorithm, Findings, Needs, Region, Shape, codes


class Brightest:
    needs = Needs(modalities={"MG"}, images=True, tomosynthesis=True)
    algorithm = Algorithm(name="Brightest", version="1.0")

    def run(self, series):
        image = max(series.images(), key=lambda image: image.values().max())
        row, column = np.unravel_index(int(image.values().argmax()), (image.rows, image.columns))
        box = Shape.box(column - 3, row - 3, column + 6, row + 6, on=image)
        mass = Region(label="Mass 1", finding=codes.SCT.Mass, shape=box, probability=0.9)
        return Findings(regions=(mass,), looked_for=(codes.SCT.Mass,))


def create(*, weights, device, options):
    return Brightest()
"""


def test_results_on_a_slice_of_a_tomosynthesis_are_valid_and_name_the_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brightest_slice.py").write_text(SLICES)
    monkeypatch.syspath_prepend(tmp_path)
    (received,) = write([tomosynthesis(spot=(4, 30, 20))], tmp_path / "in")
    assert errors("dciodvfy", received) == []
    table = PipelineTable(factory="brightest_slice:create")
    trial = run_trial("slice", table, tmp_path / "in", tmp_path / "out", device="cpu", progress=print, kinds=KINDS)
    (analysed,) = trial.series
    assert (analysed.outcome, analysed.fault) == ("findings", "")
    assert {re.sub(r"^\d+-|\.dcm$", "", path.name) for path in analysed.files} == set(KINDS)
    assert [errors("dciodvfy", path) for path in analysed.files] == [[]] * len(analysed.files)
    assert errors("dcentvfy", received, *analysed.files) == []
    (report,) = [dcmread(path) for path in analysed.files if path.name.endswith("-sr.dcm")]
    (group,) = measurement_groups(report)
    (box,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
    assert box.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 5


@pytest.mark.parametrize("name", IMAGES)
def test_every_object_of_the_examples_of_the_page_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    text = (Path(__file__).parents[2] / "docs" / "write-a-pipeline.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (code,) = (example for example in examples if f"class {name}:" in example)
    module = f"{name.lower()}_tried"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    images = write(IMAGES[name](), tmp_path / "in")
    table = PipelineTable(factory=f"{module}:create")
    trial = run_trial(name, table, tmp_path / "in", tmp_path / "out", device="cpu", progress=print, kinds=KINDS)
    (analysed,) = trial.series
    assert (analysed.outcome, analysed.fault) == ("findings", "")
    assert {re.sub(r"^\d+-|\.dcm$", "", path.name) for path in analysed.files} == set(KINDS)
    assert [errors("dciodvfy", path) for path in images] == [[]] * len(images)
    assert [errors("dciodvfy", path) for path in analysed.files] == [[]] * len(analysed.files)
    assert errors("dcentvfy", *images, *analysed.files) == []
    analysed_uid, *others = [dcmread(path).SOPInstanceUID for path in images]
    (report,) = [dcmread(path) for path in analysed.files if path.name.endswith("-sr.dcm")]
    assert analysed_uid in str(report)
    assert [uid for uid in others if uid in str(report)] == [], "no result on an image that was not analysed"

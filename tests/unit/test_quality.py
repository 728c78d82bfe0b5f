"""Images unlike those a pipeline was made for, poor images, and findings that can hardly be so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analyses import analysis, box, segment, source_of
from dicom_files import ct_series

from node.inference.run_pipeline import analyse
from node.pipeline import Algorithm, Findings, Lesion, Needs, Series, codes
from node.results.encode import encode
from node.results.gate.check import check
from node.results.plausibility import plausible
from node.studies.preflight import unmet
from node.studies.source import SourceSeries


def source(folder: Path, *, metal: bool = False) -> SourceSeries:
    made = source_of(folder, ct_series(4, 40))
    if metal:  # as if decoded so
        made.__dict__["levels"] = np.where(np.arange(made.levels.size) % 50, made.levels, 3000)
    return made


def lesion(mask, label: str = "Nodule 1") -> Lesion:
    return Lesion(segment=segment(mask, label), finding=codes.SCT.Nodule)


def test_grey_levels_unlike_those_of_the_training_make_a_series_not_applicable(tmp_path):
    series = source(tmp_path)
    needs = Needs(modalities=frozenset({"CT"}))
    middle = float(np.percentile(series.levels, 50))
    assert unmet(replace(needs, levels={50: (middle - 1, middle + 1)}), series) == ""
    reason = unmet(replace(needs, levels={50: (middle + 10, middle + 500)}), series)
    assert "unlike the images this algorithm was made for" in reason
    assert f"{middle:.0f}" in reason


def test_a_sound_result_is_left_as_it_is(tmp_path):
    series = source(tmp_path)
    findings = Findings(lesions=(lesion(box(series.volume(), (1, 5, 5), (3, 15, 15))),))
    assert plausible(findings, series) is findings


def test_what_reaches_the_edge_or_fills_the_images_is_doubted_by_name(tmp_path):
    series = source(tmp_path)
    grid = series.volume()
    cut = lesion(box(grid, (1, 5, 30), (3, 15, 40)), "Nodule 1")
    huge = lesion(box(grid, (0, 0, 0), (4, 38, 38)), "Nodule 2")
    remarks = plausible(Findings(lesions=(cut, huge), remarks=("As before.",)), series).remarks
    assert remarks[0] == "As before."
    assert [r.split(" of ")[0].split(":")[0] for r in remarks[1:]] == [
        "Nodule 1 reaches the edge",
        "Nodule 2 fills 90 %",
        "Nodule 2 reaches the edge",
    ]


def test_metal_makes_the_image_quality_poor_and_the_report_says_so(tmp_path):
    series = source(tmp_path, metal=True)
    findings = plausible(Findings(lesions=(lesion(box(series.volume(), (1, 5, 5), (3, 15, 15))),)), series)
    assert findings.evaluations == {codes.DCM.ImageQuality: codes.DCM.PoorImageQuality}
    objects = encode(analysis(findings), series, ["seg", "sr"])
    check(objects, series)
    report = list(objects[-1].dataset.iterall())
    assert "Poor image quality" in [element.value for element in report if element.keyword == "CodeMeaning"]
    assert any("expect artefacts" in element.value for element in report if element.keyword == "TextValue")


@pytest.mark.parametrize("declared", [True, False])
def test_padding_does_not_count_among_the_grey_levels(tmp_path: Path, *, declared: bool) -> None:
    images = ct_series(4, 64)
    for image in images:  # a fifth of a GE image lies outside the field of view
        pixels = image.pixel_array.astype(np.int16) + int(image.RescaleIntercept)
        pixels[: 64 // 4] = -2000
        image.PixelData, image.PixelRepresentation, image.RescaleIntercept = pixels.tobytes(), 1, "0"
        if declared:
            image.add_new("PixelPaddingValue", "US", 63536)  # -2000 in a header that calls it unsigned
    series = source_of(tmp_path, images)
    assert series.levels.size == 4 * 16 * 12
    assert series.levels.min() > -1500
    fifth = float(np.percentile(series.levels, 5))
    assert unmet(Needs(modalities=frozenset({"CT"}), levels={5: (fifth - 1, fifth + 1)}), series) == ""


class Marking:
    """Outlines everything, as a model does whose activation is applied twice."""

    algorithm = Algorithm(name="Marking", version="1")
    needs = Needs(modalities=frozenset({"CT"}))

    def __init__(self, *, lesion: bool) -> None:
        self._lesion = lesion

    def run(self, series: Series) -> Findings:
        volume = series.volume()
        mask = volume.with_array(np.ones(volume.spatial_shape, np.uint8))
        if self._lesion:
            mask.array[0] = 0
            return Findings(lesions=(lesion(mask, "Tumour"),))
        return Findings(segments=(segment(mask, "Liver"),))


@pytest.mark.parametrize(("marks", "named"), [(True, "Tumour would fill 75 %"), (False, "Liver would fill 100 %")])
def test_a_result_that_marks_the_whole_volume_is_no_result(tmp_path: Path, *, marks: bool, named: str) -> None:
    outcome, reason, findings = analyse(Marking(lesion=marks), source(tmp_path))
    assert (outcome, findings.all_segments) == ("failed", ())
    assert named in reason


class Cropping:
    """Returns a mask that is cropped to its lesion, as the contract allows."""

    algorithm = Algorithm(name="Cropping", version="1")
    needs = Needs(modalities=frozenset({"CT"}))

    def run(self, series: Series) -> Findings:
        mask = box(series.volume(), (1, 5, 5), (3, 15, 15))
        return Findings(lesions=(lesion(mask[1:3, 5:15, 5:15]),))


def test_a_mask_that_is_cropped_to_its_lesion_does_not_fill_the_images(tmp_path: Path) -> None:
    outcome, _, findings = analyse(Cropping(), source(tmp_path))
    assert outcome == "findings"
    assert not any("hardly plausible" in remark for remark in findings.remarks)

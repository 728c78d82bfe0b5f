"""Images unlike those a pipeline was made for, poor images, and findings that can hardly be so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from analyses import analysis, box, segment, source_of
from dicom_files import ct_series

from node.pipeline import Findings, Lesion, Needs, codes
from node.results import check, encode, plausible
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

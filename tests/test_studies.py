"""Grid, completeness, rules and preflight are pure: values in, values out."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from node.config import SeriesTable, parse
from node.errors import ConfigError
from node.pipeline import Needs
from node.studies.completeness import Arrival, judge
from node.studies.grid import describe, plane_name
from node.studies.preflight import unmet
from node.studies.rules import decide
from node.studies.source import SourceSeries

SETTINGS = SeriesTable(quiet_seconds=10, gap_seconds=60)


def image(position=(0.0, 0.0, 0.0), orientation=(1, 0, 0, 0, 1, 0), **attributes) -> Dataset:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = 4, 6
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.ImageOrientationPatient = list(orientation)
    dataset.ImagePositionPatient = list(position)
    dataset.FrameOfReferenceUID = "1.2.3"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def stack(heights, **attributes) -> list[Dataset]:
    return [image((1.0, 2.0, z), **attributes) for z in heights]


def test_slices_are_sorted_along_the_normal_whatever_the_order_of_arrival():
    grid = describe(stack([5.0, 0.0, 2.5]))
    assert grid.order == (1, 2, 0)
    assert grid.fault == ""
    np.testing.assert_allclose(grid.affine, [[0, 0, 0.75, 1], [0, 0.5, 0, 2], [2.5, 0, 0, 0], [0, 0, 0, 1]])


def test_a_sagittal_grid_maps_rows_and_columns_to_the_axes_that_the_header_says():
    grid = describe([image((x, 0, 0), (0, 1, 0, 0, 0, -1)) for x in (3.0, 0.0)])
    point = grid.affine @ [1, 2, 3, 1]  # second slice along the normal, row 2, column 3
    normal = np.cross([0, 1, 0], [0, 0, -1])
    start = 3.0 if normal[0] < 0 else 0.0
    np.testing.assert_allclose(point[:3], [start + 3 * normal[0], 3 * 0.75, -2 * 0.5])


@pytest.mark.parametrize(
    ("datasets", "reason", "gap"),
    [
        (stack([0, 2, 4, 8, 10]), "slices are missing: 1", True),
        (stack([0, 2, 4, 4, 6]), "occur more than once", False),
        (stack([0, 2, 4, 7, 9]), "steps vary", False),
        ([image((0, 0.2 * k, k)) for k in range(4)], "tilted gantry", False),
        ([*stack([0, 1]), image((0, 0, 2), (0, 1, 0, 1, 0, 0))], "different orientations", False),
        ([*stack([0, 1]), image((1, 2, 2), Rows=5)], "Rows differs", False),
        (stack([0, 1], PixelSpacing=None), "PixelSpacing is missing", False),
        (stack([0, 1], ImagePositionPatient=None), "ImagePositionPatient is missing", False),
        (stack([0], NumberOfFrames=3), "multi-frame", False),
        ([Dataset()], "no images", False),
    ],
)
def test_what_is_no_regular_grid_says_why(datasets, reason, gap):
    grid = describe(datasets)
    assert grid.affine is None
    assert reason in grid.fault
    assert grid.gap is gap


@pytest.mark.parametrize(
    ("cosines", "name"),
    [
        ((1, 0, 0, 0, 1, 0), "axial"),
        ((1, 0, 0, 0, 0, -1), "coronal"),
        ((0, 1, 0, 0, 0, -1), "sagittal"),
        ((0.5, 0.5, 0.7071, -0.7071, 0.7071, 0), "oblique"),
    ],
)
def test_planes_have_the_names_of_anatomy(cosines, name):
    if name == "oblique":
        normal = np.array([1.0, 1.0, 1.0]) / np.sqrt(3)
        first = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
        cosines = (*first, *np.cross(normal, first))
    assert plane_name(cosines) == name


@pytest.mark.parametrize(
    ("arrival", "seconds", "complete"),
    [
        (Arrival(instances=3, last_at=0, open_associations=0), 9, False),
        (Arrival(instances=3, last_at=0, open_associations=0), 10, True),
        (Arrival(instances=3, last_at=0, open_associations=1), 50, False),
        (Arrival(instances=3, last_at=0, open_associations=0, missing="slices are missing"), 50, False),
        (Arrival(instances=3, last_at=0, open_associations=0, missing="slices are missing"), 60, True),
    ],
)
def test_a_series_is_complete_after_quiet_without_senders_and_gaps_wait_longer(arrival, seconds, complete):
    completion = judge(arrival, SETTINGS, now=seconds)
    assert completion.complete is complete
    assert not complete or "3 images" in completion.signal


def rules(*conditions: str):
    tables = "".join(
        f'[[rules]]\nname = "r{i}"\nmatch = {{ {c} }}\npipelines = ["p"]\ndestinations = ["d"]\n'
        for i, c in enumerate(conditions)
    )
    return parse(tables + '[pipelines.p]\n[destinations.d]\ntitle = "D"\nhost = "h"\nport = 1\n').rules


@pytest.mark.parametrize(
    ("condition", "matched"),
    [
        ('Modality = "CT"', True),
        ('Modality = "MR"', False),
        ('Modality = ["MR", "CT"]', True),
        ('SeriesDescription = "*flair*"', True),
        ('SeriesDescription = "AX ????? 5MM"', True),
        ('SeriesDescription = "AX ??? 5MM"', False),
        ('SliceThickness = "1.0-5.0"', True),
        ('SliceThickness = "1.0-4.9"', False),
        ('SliceThickness = "5-"', True),
        ("SliceThickness = 5", True),
        ('StudyDate = "20240101-20241231"', True),
        ('StudyDate = "20250101-"', False),
        ('StudyDate = "-20240615"', True),
        ('BodyPartExamined = "*"', True),
        ('BodyPartExamined = "CHEST"', False),
        ('ImageType = "AXIAL"', True),
        ('ConvolutionKernel = "B[3]0"', True),
    ],
)
def test_rules_match_as_ps3_4_c_2_2_2_says(condition, matched):
    header = image(
        SeriesDescription="Ax Flair 5mm",
        SliceThickness="5.0",
        StudyDate="20240615",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        ConvolutionKernel="B[3]0",
    )
    decision = decide(header, rules(condition))
    assert decision.outcome == ("routed" if matched else "ignored")
    assert decision.trace[0]["conditions"][0]["matched"] is matched
    assert decision.trace[0]["pipelines"] == ["p"]


def test_every_matching_rule_applies_and_one_pipeline_runs_once_with_all_destinations():
    text = """
    [pipelines.p]
    [pipelines.q]
    [destinations.a]
    title = "A"
    host = "h"
    port = 1
    [destinations.b]
    title = "B"
    host = "h"
    port = 2
    [[rules]]
    name = "first"
    pipelines = ["p"]
    destinations = ["a"]
    priority = "low"
    [[rules]]
    name = "second"
    match = { Modality = "CT" }
    pipelines = ["p", "q"]
    destinations = ["b"]
    """
    routes = decide(image(), parse(text).rules).routes
    assert [(r.pipeline, r.rule, r.destinations, r.priority) for r in routes] == [
        ("p", "first", ("a", "b"), 2),
        ("q", "second", ("b",), 2),
    ]


def test_a_stat_request_comes_first():
    assert decide(image(RequestedProcedurePriority="STAT"), rules('Modality = "CT"')).routes[0].priority == 1


def test_localizers_and_non_images_are_ignored_with_the_reason():
    assert "localizer" in decide(image(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), rules('Modality = "CT"')).reason
    report = Dataset()
    report.Modality = "SR"
    assert "no images" in decide(report, rules('Modality = "*"')).reason


def test_a_rule_with_an_unknown_keyword_or_a_word_for_a_number_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"'Modalty' is no DICOM attribute keyword \(did you mean 'Modality'\?\)"):
        rules('Modalty = "CT"')
    with pytest.raises(ConfigError, match="SliceThickness = 'thin'"):
        rules('SliceThickness = "thin"')


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ({"modalities": frozenset({"MR"})}, "Modality is CT, needed is MR"),
        ({"body_parts": frozenset({"HEAD", "BRAIN"})}, "BodyPartExamined is CHEST, needed is BRAIN or HEAD"),
        ({"min_slices": 4}, "3 images, at least 4"),
        ({"max_slice_spacing_mm": 2.0}, "slices are 2.5 mm apart"),
        ({"max_pixel_spacing_mm": 0.7}, "pixels are 0.75 mm apart"),
        ({"planes": frozenset({"coronal"})}, "the slices are axial, needed is coronal"),
        ({}, ""),
    ],
)
def test_needs_are_checked_on_headers_and_the_reason_names_value_and_need(needs, reason):
    datasets = stack([0, 2.5, 5], BodyPartExamined="CHEST")
    series = SourceSeries(paths=(), datasets=tuple(datasets), grid=describe(datasets))
    found = unmet(Needs(**{"modalities": frozenset({"CT"}), **needs}), series)
    assert reason in found if reason else found == ""


def test_a_gap_makes_a_series_not_applicable_only_where_a_regular_grid_is_needed():
    datasets = stack([0, 2, 6])
    series = SourceSeries(paths=(), datasets=tuple(datasets), grid=describe(datasets))
    assert "missing" in unmet(Needs(modalities=frozenset({"CT"})), series)
    assert unmet(Needs(modalities=frozenset({"CT"}), regular_grid=False), series) == ""

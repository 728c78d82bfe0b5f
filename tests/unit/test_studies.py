"""Grid, completeness and preflight are pure: values in, values out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dicom_files import ct_series
from enhanced_files import enhanced
from pydicom import Dataset

from node.config import SeriesTable
from node.pipeline import Needs
from node.routing.completeness import Arrival, judge
from node.studies.frames import split_frames
from node.studies.grid import describe, plane_name
from node.studies.preflight import unmet
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
        (stack([0, 2, 6, 8, 12, 14]), "slices are missing: 2", True),
        (stack([0, 0, 2, 2, 4]), "several volumes in one series", False),
        (stack([0, 2, 5, 9, 14]), "steps vary", False),
        ([image((0, 0.8 * k, k)) for k in range(4)], "more than a tilted gantry", False),
        ([*stack([0, 1]), *[image((0, 0, z), (0, 1, 0, 1, 0, 0)) for z in (2, 3)]], "Orientation", False),
        ([*stack([0]), image((1, 2, 2), Rows=5)], "Rows differs", False),
        (
            [image((0, 0, z * z), FrameOfReferenceUID=f"1.2.{z + 1}") for z in range(4)],
            "each of the 4 images states another Frame of Reference UID, as after a faulty de-identification",
            False,
        ),
        (
            [image((0, 0, z), FrameOfReferenceUID=f"1.2.{z % 2 + 1}") for z in range(4)],
            "FrameOfReferenceUID differs within the series",
            False,
        ),
        (stack([0, 1], PixelSpacing=None), "PixelSpacing is missing", False),
        (stack([0, 1], ImagePositionPatient=None), "ImagePositionPatient is missing", False),
        (stack([0, 1], PixelSpacing=[0, 0]), "PixelSpacing is not positive", False),
        (stack([0], NumberOfFrames=3), "multi-frame", False),
        ([Dataset()], "no images", False),
    ],
)
def test_what_is_no_regular_grid_says_why(datasets, reason, gap):
    grid = describe(datasets)
    assert grid.affine is None
    assert reason in grid.fault
    assert grid.gap is gap
    assert sorted(grid.order) == list(range(len(datasets)))


@pytest.mark.parametrize(
    ("datasets", "order", "left_out", "gap"),
    [
        (stack([0, 2, 4, 8, 10]), (0, 1, 2), "slices are missing: 1 at 1 place (step 2 mm)", True),
        (stack([0, 4, 6, 8, 10]), (1, 2, 3, 4), "4 of 5 images", True),
        (stack([0, 2, 4, 4, 6]), (0, 1, 3, 4), "1 slice position occurs more than once", False),
        (stack([0, 2, 4, 7, 9]), (0, 1, 2), "slice steps vary from 2 to 3 mm", False),
        ([*stack([0, 1]), image((0, 0, 2), (0, 1, 0, 1, 0, 0))], (0, 1), "1 image left out: ImageOrien", False),
        ([*stack([0, 1, 2]), image((1, 2, 2), Rows=5)], (0, 1, 2), "1 image left out: Rows differs", False),
        ([*stack([0, 1, 2]), image(PixelSpacing=None)], (0, 1, 2), "PixelSpacing is missing", False),
        ([*stack([0, 1, 2]), image((9, 2, 3)), image((9, 2, 4))], (0, 1, 2), "shifted", False),
    ],
)
def test_the_largest_regular_part_is_taken_and_the_rest_is_named(datasets, order, left_out, gap):
    grid = describe(datasets)
    assert grid.order == order
    assert left_out in grid.left_out
    assert grid.fault == ""
    assert grid.gap is gap


def test_a_tilted_gantry_shifts_images_by_whole_pixels_and_none_by_more_than_half_of_one():
    datasets = [image((0, 0.3 * k, k)) for k in range(6)]
    grid = describe(datasets)
    assert (grid.fault, grid.left_out) == ("", "")
    assert grid.spread(4, 6) == (4 + 3, 6)
    for k, (row, column) in enumerate(grid.offsets):
        believed = (grid.affine @ [k, row, column, 1])[:3]
        assert np.abs(believed - np.array([0, 0.3 * k, k]))[1] <= 0.25 + 1e-9
        assert np.allclose(believed[[0, 2]], [0, k])


def test_a_frame_of_an_enhanced_object_is_an_image_with_the_attributes_of_its_functional_groups():
    images = ct_series(3, 8)
    images[1].RescaleIntercept = -1000.0
    (whole,) = enhanced(images)
    for group in whole.PerFrameFunctionalGroupsSequence:
        group.PixelValueTransformationSequence = [Dataset()]
        group.PixelValueTransformationSequence[0].RescaleIntercept = -5.0
    frames = split_frames(whole)
    assert [int(f.ReferencedFrameNumber) for f in frames] == [1, 2, 3]
    assert [f.ImagePositionPatient for f in frames] == [i.ImagePositionPatient for i in images]
    assert all(f.PixelSpacing == [0.7, 0.7] and f.RescaleIntercept == -5.0 and f.RescaleSlope == 1.0 for f in frames)
    assert all("NumberOfFrames" not in f and f.SOPInstanceUID == whole.SOPInstanceUID for f in frames)


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
    assert completion.signal is None or completion.signal["images"] == 3


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ({"modalities": frozenset({"MR"})}, "Modality is CT, needed is MR"),
        ({"body_parts": frozenset({"HEAD", "BRAIN"})}, "BodyPartExamined is CHEST, needed is BRAIN or HEAD"),
        ({"min_slices": 4}, "3 images, at least 4"),
        ({"max_slice_spacing_mm": 2.0}, "slices are 2.5 mm apart"),
        ({"max_pixel_spacing_mm": 0.7}, "pixels are 0.75 mm apart"),
        ({"planes": frozenset({"coronal"})}, "the slices are axial, needed is coronal"),
        ({"min_coverage_mm": 60.0}, "images cover 8 mm, at least 60 mm"),
        ({"min_field_mm": 5000.0}, "at least 5000 mm are needed"),
        ({}, ""),
    ],
)
def test_needs_are_checked_on_headers_and_the_reason_names_value_and_need(needs, reason):
    datasets = stack([0, 2.5, 5], BodyPartExamined="CHEST")
    series = SourceSeries(paths=(), datasets=tuple(datasets), grid=describe(datasets))
    unmet_need = unmet(Needs(**{"modalities": frozenset({"CT"}), **needs}), series)
    assert reason in unmet_need if reason else unmet_need == ""


def test_a_gap_makes_a_series_not_applicable_only_where_a_regular_grid_is_needed():
    datasets = stack([0, 2, 6, 8, 12])
    series = SourceSeries(paths=(), datasets=tuple(datasets), grid=describe(datasets))
    assert "missing" in unmet(Needs(modalities=frozenset({"CT"})), series)
    assert unmet(Needs(modalities=frozenset({"CT"}), regular_grid=False), series) == ""


@pytest.mark.parametrize("needs", [{"min_slices": 90}, {"min_coverage_mm": 130.0}])
def test_what_a_gap_leaves_too_little_of_is_refused_with_the_gap(needs: dict[str, Any]):
    datasets = stack([k * 1.0 for k in range(160) if not 70 <= k < 80])
    grid = describe(datasets)
    series = SourceSeries(paths=(), datasets=tuple(datasets[i] for i in grid.order), grid=grid)
    reason = unmet(Needs(modalities=frozenset({"CT"}), **needs), series)
    assert "are needed; slices are missing: 10 at 1 place" in reason
    assert "80 of 150 images" in reason


def test_a_single_missing_image_of_a_long_thin_series_is_interpolated_and_named():
    heights = [k * 1.0 for k in range(150) if k != 70]
    grid = describe(stack(heights))
    assert grid.order == tuple(range(149))
    assert (grid.slices[69], grid.slices[70], grid.slices[-1]) == (69, 71, 149)
    assert grid.left_out == (
        "1 image is missing and was interpolated between the neighbours, 149 of 150 images were analysed"
    )
    assert grid.gap, "it is still waited for"
    assert grid.fault == ""
    np.testing.assert_allclose(grid.affine[:3, 0], (0, 0, 1))


@pytest.mark.parametrize(
    ("heights", "why"),
    [
        ([k * 1.0 for k in range(150) if k not in (70, 71)], "two in a row"),
        ([k * 1.0 for k in range(150) if k not in (30, 70)], "two of 150"),
        ([k * 2.0 for k in range(150) if k != 70], "steps of 2 mm"),
        ([k * 1.0 for k in range(90) if k != 40], "one of 90"),
        ([k + 0.3 * (k > 70) for k in range(150)], "a step of 1.3"),
    ],
)
def test_larger_gaps_are_not_interpolated(heights, why):
    grid = describe(stack(heights))
    assert grid.slices == (), why
    assert "the largest regular part" in grid.left_out + grid.fault


def test_images_shifted_across_a_missing_one_are_not_interpolated():
    grid = describe([image((0.4 * (k > 70), 0, k * 1.0)) for k in range(150) if k != 70])
    assert grid.slices == ()

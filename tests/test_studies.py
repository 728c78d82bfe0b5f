"""Grid, completeness and preflight are pure: values in, values out."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from node.config import SeriesTable
from node.pipeline import Needs
from node.studies.completeness import Arrival, judge
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

"""A mask comes back at the patient coordinates where it was drawn, on every grid a scanner makes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import highdicom
import numpy as np
import pytest
from analyses import analysis, one, segment, source_of
from dicom_files import AXIAL, CORONAL, SAGITTAL, ct_series
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from node.errors import EncodeError
from node.pipeline import DerivedSeries, Findings, Volume, codes
from node.results import check, encode
from node.results.grid import place
from node.studies.source import SourceSeries

DIRECTIONS = ("HPL", "FAR", "PRH", "LHA", "AFL", "RHP", "PLH")


def oblique(tilt: float, turn: float) -> tuple[float, ...]:
    """Axial, turned about two axes (degrees)."""
    a, b = np.radians([tilt, turn])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return tuple((about_x @ about_z @ np.array([[1, 0], [0, 1], [0, 0]])).T.ravel().round(9))


def flipped_columns(orientation: tuple[float, ...]) -> tuple[float, ...]:
    """Columns run the other way; the normal turns round with them, so the slices do too."""
    return (*(-v for v in orientation[:3]), *orientation[3:])


ORIENTATIONS = st.one_of(
    st.sampled_from([AXIAL, CORONAL, SAGITTAL]),
    st.sampled_from([AXIAL, CORONAL, SAGITTAL]).map(flipped_columns),
    st.builds(oblique, st.floats(-40, 40), st.floats(-40, 40)),
)
SPACINGS = st.tuples(*[st.sampled_from([0.45, 0.7, 1.0, 1.25, 2.5])] * 3)


def points(volume: Volume) -> np.ndarray:
    """LPS millimetres of the voxels inside."""
    return np.argwhere(volume.array) @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def same_places(one: np.ndarray, other: np.ndarray) -> bool:
    """As many points, each within a hundredth of a millimetre of one of the others."""
    there, _ = cKDTree(other).query(one)
    back, _ = cKDTree(one).query(other)
    return len(one) == len(other) and max(there.max(), back.max()) < 0.01


def read_back(source: SourceSeries, mask: Volume) -> Volume:
    objects = encode(analysis(Findings(segments=(segment(mask),))), source)
    check(objects, source)
    seg = highdicom.seg.Segmentation.from_dataset(one(objects, "seg"))
    return seg.get_volume(combine_segments=True)


@settings(max_examples=40, deadline=None)
@given(
    orientation=ORIENTATIONS,
    spacing=SPACINGS,
    reverse=st.booleans(),
    direction=st.sampled_from([None, *DIRECTIONS]),
    seed=st.integers(0, 1000),
)
def test_a_mask_lies_where_it_was_drawn(orientation, spacing, reverse, direction, seed):
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(seed).integers(-900, 100, (5, 7, 9))
        datasets = ct_series(volume=noise, spacing=spacing, orientation=orientation, origin=(12.5, -33.0, 71.25))
        for number, dataset in enumerate(datasets[::-1] if reverse else datasets, 1):
            dataset.InstanceNumber = number
        source = source_of(Path(folder), datasets)
        grid = source.volume(direction)
        drawn = grid.with_array((np.random.default_rng(seed).random(grid.spatial_shape) < 0.2).astype(np.uint8))
        drawn.array[0, 0, 0] = 1  # never empty, and touches a corner
        assert same_places(points(read_back(source, drawn)), points(drawn))


@settings(max_examples=25, deadline=None)
@given(orientation=ORIENTATIONS, direction=st.sampled_from(DIRECTIONS), low=st.tuples(*[st.integers(0, 2)] * 3))
def test_a_cropped_mask_lies_where_it_was_drawn(orientation, direction, low):
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder), ct_series(volume=np.zeros((6, 7, 8), int), orientation=orientation))
        grid = source.volume(direction)
        part = grid[tuple(slice(a, a + 4) for a in low)]
        drawn = part.with_array(np.ones(part.spatial_shape, np.uint8))
        drawn.array[0, 1, 2] = 0
        assert same_places(points(read_back(source, drawn)), points(drawn))


def test_a_padded_mask_keeps_what_lies_on_the_images(tmp_path):
    source = source_of(tmp_path, ct_series(volume=np.zeros((4, 6, 8), int)))
    grid = source.volume("HPL")
    padded = grid.pad(3)
    drawn = padded.with_array(np.ones(padded.spatial_shape, np.uint8))
    assert same_places(points(read_back(source, drawn)), points(grid.with_array(np.ones(grid.spatial_shape, np.uint8))))


@settings(max_examples=25, deadline=None)
@given(
    orientation=ORIENTATIONS,
    step=st.sampled_from([0.5, 0.8, 1.3]),
    centre=st.tuples(*[st.floats(-4, 4)] * 3),
    radius=st.floats(5, 8),
)
def test_a_resampled_ball_keeps_its_place_and_volume(orientation, step, centre, radius):
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(
            Path(folder),
            ct_series(volume=np.zeros((24, 32, 32), int), spacing=(1.2, 1.0, 1.0), orientation=orientation),
        )
        grid = source.geometry
        middle = (grid.affine @ [12, 16, 16, 1])[:3] + centre
        size = int(40 / step)
        affine = np.diag([-step, step, -step, 1.0])[[2, 1, 0, 3]]  # its own axes: neither the source's nor HPL
        affine[:3, 3] = middle - affine[:3, :3] @ np.full(3, size / 2)
        index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
        distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - middle, axis=-1)
        ball = Volume((distance < radius).astype(np.uint8), affine, coordinate_system="PATIENT")
        placed = place(ball, grid, "ball")
        voxels = np.argwhere(placed.voxels) + [s.start for s in placed.box]
        found = (voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]).mean(axis=0)
        assert np.linalg.norm(found - middle) < max(1.2, step) / 2  # half of the coarser voxel
        volume = len(voxels) * abs(np.linalg.det(grid.affine[:3, :3]))
        assert volume == pytest.approx(np.count_nonzero(ball.array) * step**3, rel=0.15)


def test_a_mask_of_another_frame_of_reference_is_refused(tmp_path):
    source = source_of(tmp_path, ct_series(3, 8))
    other = Volume(
        np.ones((3, 8, 8), np.uint8),
        source.geometry.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid="1.2.3",
    )
    with pytest.raises(EncodeError, match="another frame of reference"):
        place(other, source.geometry, "Nodule 1")


@pytest.mark.parametrize("direction", [None, *DIRECTIONS])
def test_derived_pixels_lie_where_they_were_computed(tmp_path, direction):
    hu = np.random.default_rng(5).integers(-900, 900, (4, 6, 9))
    source = source_of(tmp_path, ct_series(volume=hu, orientation=SAGITTAL, spacing=(2.0, 0.5, 0.8)))
    grid = source.volume(direction)
    series = DerivedSeries(volume=grid, description="Copy", derivation=codes.DCM.Smoothing)
    objects = encode(analysis(Findings(derived=(series,))), source)
    check(objects, source)
    for number, encoded_object in enumerate(objects):
        assert np.array_equal(encoded_object.dataset.pixel_array.astype(int) - 1024, hu[number])


def test_derived_pixels_of_another_grid_are_refused_with_the_remedy(tmp_path):
    source = source_of(tmp_path, ct_series(4, 8))
    affine = source.geometry.affine.copy()
    affine[:3, :3] *= 2
    coarse = Volume(np.zeros((2, 4, 4), np.float32), affine, coordinate_system="PATIENT")
    series = DerivedSeries(volume=coarse, description="Coarse", derivation=codes.DCM.Smoothing)
    with pytest.raises(EncodeError, match="resample it back"):
        encode(analysis(Findings(derived=(series,))), source)

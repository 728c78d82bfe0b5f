"""Derived images on a grid that is not the source's are refused in words; none is cropped, padded or thinned out."""

from __future__ import annotations

import numpy as np
import pytest
from analyses import analysis, source_of
from dicom_files import ct_series

from node.errors import EncodeError
from node.pipeline import DerivedSeries, Findings, Volume, codes
from node.results.encode import encode
from node.studies.source import SourceSeries


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("series"), ct_series(6, 16))


def encoded(source: SourceSeries, volume: Volume) -> int:
    series = DerivedSeries(volume=volume, description="Smooth", derivation=codes.DCM.Smoothing)
    return len(encode(analysis(Findings(derived=(series,))), source, ("derived",)))


def scaled(volume: Volume, factor: float, array: np.ndarray) -> Volume:
    return Volume(array, volume.affine @ np.diag([factor] * 3 + [1.0]), "PATIENT")


def moved(volume: Volume, millimetres: float) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += millimetres
    return Volume(volume.array.copy(), affine, "PATIENT")


@pytest.mark.parametrize("orientation", ["HPL", "LPH", "AFR"])
def test_the_same_voxels_in_any_order_of_axes_are_taken(source: SourceSeries, orientation: str) -> None:
    assert encoded(source, source.volume(orientation)) == 6


@pytest.mark.parametrize(
    "grid", ["cropped", "padded", "twice as fine", "half as fine", "shifted", "one voxel away", "elsewhere"]
)
def test_any_other_grid_is_named_with_that_of_the_source(source: SourceSeries, grid: str) -> None:
    volume = source.volume()
    fine = volume.array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    other = {
        "cropped": lambda: volume[1:-1],
        "padded": lambda: volume.pad(2),
        "twice as fine": lambda: scaled(volume, 0.5, fine),
        "half as fine": lambda: scaled(volume, 2, volume.array[::2, ::2, ::2].copy()),
        "shifted": lambda: moved(volume, 0.3),
        "one voxel away": lambda: Volume(
            volume.array.copy(),
            volume.affine @ np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "PATIENT",
        ),
        "elsewhere": lambda: moved(volume, 1000),
    }[grid]()
    with pytest.raises(EncodeError, match=r"'Smooth' has the grid .* the source 6 x 16 x 16 voxels .*resample it"):
        encoded(source, other)

"""A stored series as pipelines and encoders see it: headers, grid, voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import Volume, VolumeGeometry
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut

from node.errors import InputError
from node.pipeline import Prior, Unsuitable
from node.studies.grid import Grid, describe

UNREADABLE = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
"""What pydicom, and arithmetic on its values, raise on values that are none of their attribute."""


def read_header(path: Path) -> Dataset:
    """Read one file without its pixel data. Raises ``InputError`` naming the file when it is no DICOM."""
    try:
        return dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError, NotImplementedError, KeyError) as error:
        raise InputError(f"{path.name}: cannot be read as DICOM ({error}); ask the sender for it again") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSeries:
    """One complete series on disk; implements ``node.pipeline.Series``."""

    paths: tuple[Path, ...]
    """Files in the order of ``datasets``."""
    datasets: tuple[Dataset, ...]
    """Headers without pixel data, sorted along the slice normal, or by Instance Number when there is no geometry."""
    grid: Grid
    companions: Mapping[str, SourceSeries] = field(default_factory=dict)
    """Other series of the study, by the names that the rule gives them."""
    prior: Prior | None = None
    """The earlier analysis to compare with."""

    @classmethod
    def read(cls, paths: Iterable[Path]) -> SourceSeries:
        """Read the headers of the files of one series.

        Raises ``InputError`` when a file is unreadable, or the files are none, or not of one series.
        """
        files = tuple(paths)
        if not files:
            raise InputError("series: no files; give the DICOM files of one series")
        headers = [read_header(p) for p in files]
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            values = {str(h.get(keyword, "")) for h in headers}
            if len(values) != 1 or values == {""}:
                raise InputError(f"{keyword}: {len(values)} values in {len(files)} files; give the files of one series")
        grid = describe(headers)
        return cls(paths=tuple(files[i] for i in grid.order), datasets=tuple(headers[i] for i in grid.order), grid=grid)

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID (0020,000D)."""
        return str(self.datasets[0].StudyInstanceUID)

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID (0020,000E)."""
        return str(self.datasets[0].SeriesInstanceUID)

    @property
    def modality(self) -> str:
        """Modality (0008,0060), ``""`` when absent."""
        return str(self.datasets[0].get("Modality") or "")

    def attribute(self, keyword: str) -> Any:
        """Value of an attribute of the first image by keyword, ``None`` when absent."""
        return self.datasets[0].get(keyword)

    def companion(self, name: str) -> SourceSeries | None:
        """See ``node.pipeline.Series.companion``."""
        return self.companions.get(name)

    @cached_property
    def geometry(self) -> VolumeGeometry:
        """Grid of the stored images, slices in the order of ``datasets``. Raises ``Unsuitable`` with the reason."""
        if self.grid.affine is None:
            raise Unsuitable(self.grid.fault)
        first = self.datasets[0]
        return VolumeGeometry(
            affine=self.grid.affine,
            spatial_shape=(len(self.datasets), int(first.Rows), int(first.Columns)),
            coordinate_system="PATIENT",
            frame_of_reference_uid=first.get("FrameOfReferenceUID") or None,
        )

    def image(self, index: int) -> np.ndarray[Any, Any]:
        """Values ``[row, column]`` of one of ``datasets``; raises as ``volume`` does."""
        header = self.datasets[index]
        return _pixels(self.paths[index], (int(header.Rows), int(header.Columns)))

    def volume(self, orientation: str | None = None) -> Volume:
        """Decode all images; see ``node.pipeline.Series.volume``.

        Raises ``Unsuitable`` when there is no regular grid, ``InputError`` when pixel data cannot be decoded.
        """
        geometry = self.geometry
        array = np.empty(geometry.spatial_shape, np.float32)
        for target, path in zip(array, self.paths, strict=True):
            target[...] = _pixels(path, geometry.spatial_shape[1:])
        volume = Volume(
            array,
            geometry.affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=geometry.frame_of_reference_uid,
        )
        if orientation is None:
            return volume
        volume = volume.to_patient_orientation(orientation)
        return volume.with_array(np.ascontiguousarray(volume.array))


def _pixels(path: Path, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    dataset = dcmread(path)
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise Unsuitable("the images are in colour; grey-scale images are needed")
    try:
        stored = dataset.pixel_array
    except (ValueError, AttributeError, NotImplementedError, RuntimeError, TypeError, KeyError) as error:
        uid = dataset.get("SOPInstanceUID", "")
        raise InputError(
            f"PixelData of {uid} cannot be decoded ({error}); ask the sender for the image again"
        ) from error
    if stored.shape != shape:
        raise InputError(f"PixelData of {dataset.SOPInstanceUID} is {stored.shape}, header says {shape}")
    return np.asarray(apply_modality_lut(stored, dataset))

"""A stored series as pipelines and encoders see it: headers, grid, voxels.

One header is one image: the frames of an Enhanced multi-frame object are headers of their own (``frames.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from highdicom import Volume, VolumeGeometry
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut

from node.errors import IdentityError, InputError
from node.pipeline import Prior, Result, SeriesVolume, Unsuitable
from node.studies.frame_of_reference import shared_uid
from node.studies.frames import split_frames, split_plain_frames
from node.studies.grid import LEAST_PART, Grid, describe, unplaced
from node.studies.header import read_header
from node.studies.identity import contradictions
from node.studies.pixel_data import in_colour, read_pixels, sampled
from node.studies.pydicom_errors import UNREADABLE
from node.studies.source_image import ImageName, SourceImage
from node.studies.stored_image import Decoder, StoredImage, decode_here
from node.studies.suitability import count_reasons, slice_faults
from node.studies.volumes import described, volumes_of
from node.translation import joined, sentence

_SAMPLES = 5
"""Images that the grey levels are taken from."""
_MOST_VOXELS = 1 << 36
"""256 GiB as float32; a few bytes of a header can state any size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSeries:
    """One complete series on disk; implements ``node.pipeline.Series``."""

    paths: tuple[Path, ...]
    """The file of each of ``datasets``; the frames of a multi-frame object share theirs."""
    datasets: tuple[Dataset, ...]
    """Headers without pixel data of the images that are analysed, sorted along the slice normal; of all images, by
    Instance Number, when there is no geometry. With ``grid.assumption`` they state the Frame of Reference of results,
    not that of their files."""
    grid: Grid
    unsuitable: str = ""
    """Why most of the images are no slices of grey levels, whatever the pipeline, in words for a radiologist."""
    set_aside: str = ""
    """Which of the others are none."""
    companions: Mapping[str, SourceSeries] = field(default_factory=dict)
    """Other series of the study, by the names that the rule gives them."""
    prior: Prior | None = None
    """The earlier analysis to compare with."""
    results: Mapping[str, Result] = field(default_factory=dict)
    """What other pipelines have found on it, by their names."""
    decoded: Volume | None = None
    """``volume()`` of it, where somebody decoded it ahead."""
    decode: Decoder = decode_here
    """What decodes the images of its volumes."""
    parts: tuple[tuple[Mapping[str, float], SourceSeries], ...] = ()
    """Its volumes with their keys, where it holds several; it has no geometry then."""

    @classmethod
    def read(cls, paths: Iterable[Path], decode: Decoder = decode_here) -> SourceSeries:
        """Read the headers of the files of one series.

        Raises ``InputError`` when a file is unreadable, or the files are none, or not of one series; ``IdentityError``
        when they are not of one patient.
        """
        files = tuple(paths)
        if not files:
            raise InputError("series: no files; give the DICOM files of one series")
        headers = [(path, read_header(path)) for path in files]
        try:
            return cls._of_headers(headers, decode)
        except UNREADABLE as error:
            raise InputError(
                f"series of {files[0].name}: its headers cannot be understood ({type(error).__name__}); "
                "ask the sender for it again"
            ) from error

    @classmethod
    def _of_headers(cls, headers: Sequence[tuple[Path, Dataset]], decode: Decoder) -> SourceSeries:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            values = {str(h.get(keyword, "")) for _, h in headers}
            if len(values) != 1 or values == {""}:
                raise InputError(
                    f"{keyword}: {len(values)} values in {len(headers)} files; give the files of one series"
                )
        if keywords := contradictions(header for _, header in headers):
            raise IdentityError(
                f"{', '.join(keywords)}: the images contradict one another; send them under one identity"
            )
        images = [(path, header) for path, header in headers if "Rows" in header]  # raw data may stand among them
        frames = [(path, frame) for path, header in images or headers for frame in split_frames(header)]
        reasons = slice_faults([frame for _, frame in frames])
        slices = [pair for pair, reason in zip(frames, reasons, strict=True) if not reason]
        left_out = count_reasons(reason for reason in reasons if reason)
        if len(slices) > LEAST_PART * len(frames):
            frames, fault = slices, ""
            grid = describe([frame for _, frame in frames])
            if grid.assumption:
                for _, frame in frames:
                    frame.FrameOfReferenceUID = shared_uid(str(frame.SeriesInstanceUID))
        else:
            fault = Counter(filter(None, reasons)).most_common(1)[0][0]
            grid = unplaced([frame for _, frame in frames], fault)
        several = volumes_of([frame for _, frame in frames]) if grid.affine is None and not fault else ()
        parts = tuple((volume.key, cls._sorted(frames, volume.grid, decode)) for volume in several)
        whole = cls._sorted(frames, described(grid, several), decode)
        if grid.affine is None and not parts:
            whole = _frame_by_frame(whole)
        return replace(whole, unsuitable=fault, set_aside="" if fault else left_out, parts=parts)

    @classmethod
    def _sorted(cls, frames: Sequence[tuple[Path, Dataset]], grid: Grid, decode: Decoder) -> SourceSeries:
        paths, datasets = zip(*(frames[i] for i in grid.order), strict=True)
        return cls(paths=paths, datasets=datasets, grid=grid, decode=decode)

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

    @property
    def scanner(self) -> str:
        """Manufacturer and model name, ``""`` when absent."""
        first = self.datasets[0]
        return " ".join(str(first.get(k) or "") for k in ("Manufacturer", "ManufacturerModelName")).strip()

    @property
    def left_out(self) -> str:
        """Which images of the series are not analysed, and why, in words for a radiologist; empty when all are."""
        return joined(filter(None, (self.set_aside, self.grid.left_out)), "; ")

    def attribute(self, keyword: str) -> Any:
        """Value of an attribute of the first image by keyword, ``None`` when absent."""
        return self.datasets[0].get(keyword)

    def companion(self, name: str) -> SourceSeries | None:
        """See ``node.pipeline.Series.companion``."""
        return self.companions.get(name)

    def result(self, pipeline: str) -> Result | None:
        """See ``node.pipeline.Series.result``."""
        return self.results.get(pipeline)

    @cached_property
    def geometry(self) -> VolumeGeometry:
        """Grid of ``volume()``, slices in the order of ``datasets``. Raises ``Unsuitable`` with the reason.

        Its rows and columns are those of the images, unless the gantry was tilted: see ``offsets``; it has more slices
        where images are missing: see ``slices``.
        """
        if self.grid.affine is None:
            raise Unsuitable(self.grid.fault)
        first = self.datasets[0]
        shape = (self.slices[-1] + 1, *self.grid.spread(int(first.Rows), int(first.Columns)))
        if prod(shape) > _MOST_VOXELS:
            raise Unsuitable(
                sentence("a volume of {shape} voxels is larger than any memory", shape=" x ".join(map(str, shape)))
            )
        try:
            return VolumeGeometry(
                affine=self.grid.affine,
                spatial_shape=shape,
                coordinate_system="PATIENT",
                frame_of_reference_uid=str(first.get("FrameOfReferenceUID") or "") or None,
            )
        except ValueError as error:  # highdicom measures more closely whether the axes are at right angles
            raise Unsuitable(sentence("the images are on no regular grid: {error}", error=str(error))) from error

    def image(self, index: int) -> np.ndarray[Any, Any]:
        """Values ``[row, column]`` of one of ``datasets``; raises as ``volume`` does."""
        return next(self._read([index], apply_modality_lut))

    def picture(self, index: int) -> np.ndarray[Any, Any]:
        """One of ``datasets`` as a viewer first shows it: RGB ``[row, column, 3]`` of 8 bits."""
        return next(read_pixels(self.paths[index], [self.datasets[index]], in_colour, colour=True))

    def images(self) -> tuple[SourceImage, ...]:
        """See ``node.pipeline.Series.images``."""
        return tuple(SourceImage(path=p, header=h) for p, h in zip(self.paths, self.datasets, strict=True))

    def of_images(self, names: Collection[ImageName]) -> SourceSeries:
        """The series with some of its images, for ``Needs(images=True)``; as it is when it has none of them."""
        images = [image for image in self.images() if image.name in names]
        if not images:
            return self
        return replace(
            self,
            paths=tuple(image.path for image in images),
            datasets=tuple(image.header for image in images),
            grid=replace(self.grid, order=tuple(range(len(images)))),
        )

    def stored(self, indices: Sequence[int]) -> Iterator[np.ndarray[Any, Any]]:
        """``image`` of each of the ascending ``indices`` before the Modality LUT; each file is read once."""
        return self._read(indices, lambda pixels, _: pixels)

    def _read(self, indices: Sequence[int], lut: Callable[..., Any]) -> Iterator[np.ndarray[Any, Any]]:
        for path, same_file in groupby(indices, key=lambda index: self.paths[index]):
            yield from read_pixels(path, [self.datasets[index] for index in same_file], lut)

    @cached_property
    def levels(self) -> np.ndarray[Any, Any]:
        """A sample of the grey levels, every fourth row and column of five images, without padding.

        Empty when they cannot be decoded: that is for whoever needs all images to complain of.
        """
        picks = sorted(set(np.linspace(0, len(self.datasets) - 1, _SAMPLES).round().astype(int)))
        try:
            return np.concatenate([*self._read(picks, sampled)])
        except (InputError, Unsuitable):
            return np.empty(0, np.float32)

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """(row, column) in ``geometry`` of the first pixel of each image; empty when that is (0, 0) for all."""
        return self.grid.offsets

    @cached_property
    def slices(self) -> tuple[int, ...]:
        """Slice of ``geometry`` on which each image lies."""
        return self.grid.slices or tuple(range(len(self.datasets)))

    def pixels(self) -> Iterator[np.ndarray[Any, Any]]:
        """Values ``[row, column]`` of each image, as stored, Modality LUT applied.

        Raises ``Unsuitable`` for colour images, ``InputError`` when pixel data cannot be decoded.
        """
        return self._read(range(len(self.datasets)), apply_modality_lut)

    def volume(self, orientation: str | None = None) -> Volume:
        """Decode all images; see ``node.pipeline.Series.volume``.

        Raises ``Unsuitable`` when there is no regular grid, ``InputError`` when pixel data cannot be decoded.
        """
        volume = self._decode() if self.decoded is None else self.decoded.copy()
        if orientation is None:
            return volume
        volume = volume.to_patient_orientation(orientation)
        return volume.with_array(np.ascontiguousarray(volume.array))

    def volumes(self, orientation: str | None = None) -> tuple[SeriesVolume, ...]:
        """Decode all volumes; see ``node.pipeline.Series.volumes``. Raises as ``volume`` does."""
        parts = self.parts or ((MappingProxyType({}), self),)
        return tuple(SeriesVolume(key=key, volume=part.volume(orientation)) for key, part in parts)

    @property
    def first_volume(self) -> SourceSeries:
        """The series without its other volumes."""
        if not self.parts:
            return self
        first = replace(self.parts[0][1], set_aside=self.set_aside, companions=self.companions)
        return replace(first, prior=self.prior, results=self.results)

    def _decode(self) -> Volume:
        geometry = self.geometry
        corners = self.offsets or ((0, 0),) * len(self.datasets)
        places = zip(self.paths, self.datasets, self.slices, corners, strict=True)
        images = [StoredImage.of(*place) for place in places]
        array = self.decode(images, geometry.spatial_shape, padded=bool(self.offsets))
        for missing in set(range(len(array))).difference(self.slices):
            array[missing] = (array[missing - 1] + array[missing + 1]) / 2
        return Volume(
            array,
            geometry.affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=geometry.frame_of_reference_uid,
        )


def _frame_by_frame(series: SourceSeries) -> SourceSeries:
    """The series with the frames of its cine loops and the like as images of their own."""
    images = zip(series.paths, series.datasets, strict=True)
    frames = [(path, frame) for path, image in images for frame in split_plain_frames(image)]
    paths, datasets = zip(*frames, strict=True)
    return replace(series, paths=paths, datasets=datasets, grid=replace(series.grid, order=tuple(range(len(frames)))))

"""Several volumes in one series: which images form each of them, and by which attribute they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from pydicom import Dataset

from node.pipeline.series import VOLUME_KEYS
from node.studies.characteristics.b_value import b_value_of
from node.studies.characteristics.image_kind import kind_of, words_of
from node.studies.grid import Grid, describe, numbers
from node.translation import joined, sentence
from node.wording import written

_SLICES = frozenset({"original", "derived", "reformatted"})
_COMPONENTS = frozenset({"M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "MIXED", "VELOCITY"})
"""Values of Image Type and Complex Image Component (PS3.3 C.8.13.3.1.1)."""
_Read = Callable[[Dataset], float | None]
_Place = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeImages:
    """The images of one volume of a series."""

    key: Mapping[str, float]
    """By names of ``VOLUME_KEYS``, those that tell the volumes of the series apart."""
    grid: Grid
    """``order``: indices of all images of the series."""


def volumes_of(images: Sequence[Dataset]) -> tuple[VolumeImages, ...]:
    """Return the volumes of a series, by ascending keys; empty unless its attributes account for every image.

    All volumes must have the same positions, each of them once, and be one whole regular grid, of one kind of images:
    what is not certain to belong together is not put together.
    """
    if len({_content(image) for image in images}) > 1:  # whatever else differs: a phase image is no echo
        return ()
    places = [_place(image) for image in images]
    groups: dict[tuple[float, ...], list[int]] = {(): list(range(len(images)))}
    names: list[str] = []
    for name, read in _READERS.items():
        values = [read(image) for image in images]
        finer: dict[tuple[float, ...], list[int]] = {}
        for key, indices in groups.items():
            for index in indices:
                value = values[index]
                if value is not None:
                    finer.setdefault((*key, value), []).append(index)
        known = sum(map(len, finer.values())) == len(images)
        if known and len(finer) > len(groups) and _have_the_same_places(finer, places):
            groups, names = finer, [*names, name]
    if len(groups) < 2 or any(len(indices) != len({places[i] for i in indices}) for indices in groups.values()):
        return ()
    volumes = [_volume(images, groups[key], dict(zip(names, key, strict=True))) for key in sorted(groups)]
    return (
        tuple(volumes)
        if all(_is_whole(volume.grid) and _alike(images, volume, volumes[0]) for volume in volumes)
        else ()
    )


def described(grid: Grid, volumes: Sequence[VolumeImages]) -> Grid:
    """Return the grid with a fault that says by which attributes the volumes differ."""
    if not volumes:
        return grid
    differ = differences([volume.key for volume in volumes])
    return replace(
        grid,
        fault=sentence(
            "slice positions occur more than once: {number} volumes in one series, by {attributes}",
            number=len(volumes),
            attributes=differ,
        ),
    )


def differences(keys: Sequence[Mapping[str, float]]) -> str:
    """Return in words what tells volumes apart: ``b-value (s/mm2) 0, 500, 1000``."""
    values = {name: joined(map(written, sorted({key[name] for key in keys})), ", ") for name in keys[0]}
    return joined(
        (sentence("{key} {values}", key=sentence(VOLUME_KEYS[name]), values=of) for name, of in values.items()), " and "
    )


def _volume(images: Sequence[Dataset], indices: Sequence[int], key: Mapping[str, float]) -> VolumeImages:
    grid = describe([images[i] for i in indices])
    return VolumeImages(
        key=MappingProxyType(dict(key)), grid=replace(grid, order=tuple(indices[i] for i in grid.order))
    )


def _is_whole(grid: Grid) -> bool:
    return grid.affine is not None and not (grid.left_out or grid.assumption)


def _alike(images: Sequence[Dataset], volume: VolumeImages, other: VolumeImages) -> bool:
    """Whether two volumes have the same voxels."""
    ours, theirs = (images[of.grid.order[0]] for of in (volume, other))
    same = all(ours.get(keyword) == theirs.get(keyword) for keyword in ("Rows", "Columns", "FrameOfReferenceUID"))
    return same and np.allclose(np.asarray(volume.grid.affine), np.asarray(other.grid.affine), atol=1e-3)


def _have_the_same_places(groups: Mapping[tuple[float, ...], Sequence[int]], places: Sequence[_Place]) -> bool:
    return len({frozenset(places[i] for i in indices) for indices in groups.values()}) == 1


def _place(image: Dataset) -> _Place:
    position = numbers(image, "ImagePositionPatient", 3)
    return () if position is None else tuple(position.round(2).tolist())


def _content(image: Dataset) -> tuple[str, frozenset[str]]:
    """What the values of an image are of: magnitude, phase, a map computed of other images."""
    kind = kind_of(image)
    return "" if kind in _SLICES else kind, words_of(image) & _COMPONENTS


def _b_value(image: Dataset) -> float | None:
    b_value = b_value_of(image)
    return None if b_value is None else float(round(b_value[0]))


def _of(*keywords: str) -> _Read:
    def read(image: Dataset) -> float | None:
        values = (numbers(image, keyword, 1) for keyword in keywords)
        return next((float(value[0]) for value in values if value is not None), None)

    return read


_READERS: Mapping[str, _Read] = {
    "b_value": _b_value,
    "echo_time_ms": _of("EchoTime", "EffectiveEchoTime"),
    "inversion_time_ms": _of("InversionTime", "InversionTimes"),
    "temporal_position": _of("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "cardiac_phase_percent": _of("NominalPercentageOfCardiacPhase"),
    "acquisition": _of("AcquisitionNumber", "FrameAcquisitionNumber"),
}
"""By the names of ``VOLUME_KEYS``; earlier ones are tried first."""

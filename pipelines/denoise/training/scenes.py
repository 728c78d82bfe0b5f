"""Scenes for detectability: a uniform phantom and held-out slices at low dose, each with and without known lesions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from pipelines.denoise.noise import TISSUE_HU
from pipelines.denoise.training.data import Sample, flat_pixels, level_of, low_dose
from pipelines.denoise.training.lowdose import noise_fields, with_kernel
from pipelines.denoise.training.phantom import EDGE_SIGMA, KERNEL, SIZE, SPACING_MM, WATER_RADIUS

FloatArray = NDArray[np.float32]

DIAMETERS = (4, 8, 16)
"""Pixels of the lesions, discs with the edge of the phantom's insert; about 3, 6 and 11 mm in a chest CT."""
CONTRASTS = {4: (0.9, 1.5), 8: (0.35, 0.6), 16: (0.2, 0.35)}
"""Of the lesions, for each diameter, in units of the noise level of the low-dose image."""
CONDITIONS = tuple((diameter, contrast) for diameter in DIAMETERS for contrast in CONTRASTS[diameter])
REGION = 37
"""Pixels along the square that an observer sees, the lesion in its middle."""
PHANTOM_NOISE_HU = 40.0
PHANTOM_STEP = 36
"""Pixels between lesions of the phantom: four by four in its middle."""
PHANTOM_FLAT_RADIUS = 96
VARIANTS = 2
"""Images with lesions for each one without; every place shows another condition in each."""
CENTRE = np.s_[128:384, 128:384]
"""Of a slice of 512 x 512: where lesions are put and structure is looked for."""
TISSUE_STEP, TISSUE_SD_HU = 28, 40.0
"""Pixels between places for lesions, and the largest standard deviation of the full-dose slice round one."""
DOSE = 0.25
SEED = 14


@dataclass(frozen=True, eq=False)
class Scene:
    """One realisation of the noise; images ``[3, row, column]`` in HU, the middle slice is to be denoised."""

    group: int
    absent: FloatArray
    present: tuple[FloatArray, ...]
    conditions: tuple[NDArray[np.int64], ...]
    """For each image of ``present``, the index in CONDITIONS of the lesion at each of ``places``."""
    places: NDArray[np.int64]
    """``[place, (row, column)]``."""
    truth: FloatArray
    """The middle slice without noise (phantom) or at full dose (anatomy)."""
    flat: NDArray[np.bool_]
    """Where structure is looked for in ``absent``."""
    noise_hu: float


def disc(diameter: float, size: int = REGION) -> FloatArray:
    """A lesion of contrast 1 in the middle of ``[size, size]``, its edge blurred as an image's is."""
    axis = np.arange(size) - size // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    result: FloatArray = ndtr((diameter / 2 - radius) / EDGE_SIGMA).astype(np.float32)
    return result


def with_lesions(
    absent: FloatArray, places: NDArray[np.int64], noise_hu: float, number: int
) -> tuple[tuple[FloatArray, ...], tuple[NDArray[np.int64], ...]]:
    """``VARIANTS`` copies of ``absent``, a lesion through all three slices at every place; ``number`` of the scene."""
    half = REGION // 2
    images, chosen = [], []
    for variant in range(VARIANTS):
        image, index = absent.copy(), (np.arange(len(places)) + VARIANTS * number + variant) % len(CONDITIONS)
        for (y, x), condition in zip(places, index, strict=True):
            diameter, contrast = CONDITIONS[condition]
            image[:, y - half : y + half + 1, x - half : x + half + 1] += contrast * noise_hu * disc(diameter)
        images.append(image)
        chosen.append(index)
    return tuple(images), tuple(chosen)


def phantom_scenes(count: int) -> Iterator[Scene]:
    """``count`` realisations of a cylinder of water with noise of 40 HU in its middle, four by four lesions."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :])
    water = (-1000 + 1000 * ndtr((WATER_RADIUS - radius) / EDGE_SIGMA)).astype(np.float32)
    rows = SIZE // 2 + PHANTOM_STEP * np.arange(-1.5, 2)
    places = np.stack(np.meshgrid(rows, rows, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)
    rng = np.random.default_rng(SEED)
    for number in range(count):
        noise = with_kernel(noise_fields(water, SPACING_MM, 3, rng).at(1e5), *KERNEL)
        noise *= np.float32(PHANTOM_NOISE_HU / noise[:, radius < PHANTOM_FLAT_RADIUS].std())
        absent = water + noise
        present, conditions = with_lesions(absent, places, PHANTOM_NOISE_HU, number)
        flat = radius < PHANTOM_FLAT_RADIUS
        yield Scene(number, absent, present, conditions, places, water, flat, PHANTOM_NOISE_HU)


def tissue_places(full: FloatArray) -> NDArray[np.int64]:
    """Places in even soft tissue of the middle of a full-dose slice, ``[place, (row, column)]``, on a grid."""
    mean = ndimage.uniform_filter(full, REGION // 2)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(full**2, REGION // 2) - mean**2, 0))
    half = REGION // 2 + 1
    first, last = CENTRE[0].start + half, CENTRE[0].stop - half
    grid = np.arange(first, last, TISSUE_STEP)
    every = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    y, x = every.T
    even = (mean[y, x] > TISSUE_HU[0]) & (mean[y, x] < TISSUE_HU[1]) & (spread[y, x] < TISSUE_SD_HU)
    return every[even]


def anatomy_scenes(samples: Sequence[Sample], count: int) -> Iterator[Scene]:
    """Every one of ``samples`` with even soft tissue, at a quarter of the dose, ``count`` realisations of each."""
    rng = np.random.default_rng(SEED)
    for group, sample in enumerate(samples):
        places = tissue_places(sample.slices[1])
        if len(places):
            for number in range(count):
                yield _at_low_dose(sample, places, group, number, rng)


def _at_low_dose(sample: Sample, places: NDArray[np.int64], group: int, number: int, rng: np.random.Generator) -> Scene:
    full = sample.slices[1]
    absent = low_dose(sample, (DOSE,), rng)[0]
    level = level_of(absent[1])
    present, conditions = with_lesions(absent, places, level, number)
    flat = np.zeros(full.shape, bool)
    flat[CENTRE] = flat_pixels(full)[CENTRE]
    return Scene(group, absent, present, conditions, places, full, flat, level)

"""Training and evaluation data: full-dose CT slices, a fixed split by scanner and patient, simulated noise.

Reads the data folder (``ct_slices``: single TCGA slices of many scanners; ``studies``: whole chest CTs).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray

from pipelines.denoise.noise import FINE_SIGMA, flat_tissue, gaussian, spread
from pipelines.denoise.training.lowdose import REFERENCE_PHOTONS, noise_fields, with_kernel

FloatArray = NDArray[np.float32]

TEST_MODELS = frozenset({"Definition AS+", "LightSpeed VCT", "Sensation 64", "HiSpeed CT/i"})
VAL_MODELS = frozenset({"Discovery ST", "Discovery STE", "LightSpeed Pro 16", "Biograph 6", "LightSpeed Plus"})
STUDIES = {
    "train": ("studies/lidc-idri-0063/ct",),
    "val": ("studies/lidc-idri-0001-partial/ct",),
    "test": ("studies/lung-pet-ct-dx-a0001/ct_kernel_b", "studies/lung-pet-ct-dx-a0001/ct_kernel_l"),
}
"""Scanners: LightSpeed16 (train), LightSpeed Plus (val), Brilliance16 (test); none of them is in another split."""
STUDY_STEP = {"train": 3, "val": 30, "test": 20}
"""Every how many slices of a study one is taken."""
FLOOR_HU, CEILING_HU = -1024.0, 3071.0
KERNELS = ((0.22, 0.0), (0.26, 0.0), (0.30, 0.0), (0.35, 0.0), (0.40, 0.3), (0.45, 1.0), (0.50, 2.0), (0.55, 4.0))
"""Cutoff (cycles per pixel) and boost of the simulated kernels, smooth to sharp."""
REALISATIONS = 4


@dataclass(frozen=True, eq=False)
class Sample:
    """One full-dose slice with its neighbours, ``slices`` ``[3, row, column]`` in HU; a single slice repeats itself."""

    name: str
    model: str
    slices: FloatArray
    spacing_mm: float

    @property
    def single(self) -> bool:
        return bool(np.array_equal(self.slices[0], self.slices[1]))


def read_hu(path: Path) -> tuple[pydicom.Dataset, FloatArray]:
    """Header and pixels in HU, clipped to the range of 12-bit CT (padding becomes -1024)."""
    dataset = pydicom.dcmread(path)
    hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return dataset, np.clip(hu, FLOOR_HU, CEILING_HU).astype(np.float32)


def read_study(folder: Path) -> tuple[pydicom.Dataset, FloatArray]:
    """First header and ``[slice, row, column]`` in HU, slices from foot to head."""
    read = sorted((read_hu(f) for f in folder.glob("*.dcm")), key=lambda r: float(r[0].ImagePositionPatient[2]))
    if not read:
        raise FileNotFoundError(f"data: {folder} holds no *.dcm; give the data folder with --data")
    return read[0][0], np.stack([hu for _, hu in read])


def split_of(model: str) -> str:
    """``train``, ``val`` or ``test`` for a scanner model; no patient of ``ct_slices`` is in two splits."""
    return "test" if model in TEST_MODELS else "val" if model in VAL_MODELS else "train"


def samples(data: Path, split: str) -> list[Sample]:
    """All samples of one split (``train``, ``val``, ``test``), in a fixed order."""
    loaded = []
    with (data / "ct_slices" / "index.csv").open(newline="") as index:
        for row in csv.DictReader(index):
            if split_of(row["model"]) == split:
                header, hu = read_hu(data / "ct_slices" / row["file"])
                loaded.append(Sample(row["file"][:7], row["model"], np.stack([hu] * 3), float(header.PixelSpacing[0])))
    for folder in STUDIES[split]:
        header, volume = read_study(data / folder)
        for k in range(3, len(volume) - 3, STUDY_STEP[split]):
            name = f"{Path(folder).parent.name}/{Path(folder).name}/{k}"
            spacing = float(header.PixelSpacing[0])
            loaded.append(Sample(name, str(header.ManufacturerModelName), volume[k - 1 : k + 2], spacing))
    return loaded


def lag_one(detail: torch.Tensor, flat: torch.Tensor) -> float:
    """Correlation of horizontally neighbouring pixels of ``detail`` where ``flat``: the texture in one figure."""
    pairs = flat[..., 1:] * flat[..., :-1]
    product = (pairs * detail[..., 1:] * detail[..., :-1]).sum() / pairs.sum().clamp(min=1)
    return float(product / ((flat * detail.square()).sum() / flat.sum().clamp(min=1)))


@dataclass(frozen=True, eq=False)
class Noisy:
    """A sample with independent ramp-filtered noise fields that belong to its own attenuation."""

    sample: Sample
    fields: NDArray[np.float16]
    """``[realisation, row, column]``, full band; apply a kernel with ``with_kernel``."""
    field_maps: FloatArray
    """``[kernel, row / 16, column / 16]``: noise map of the fields after each of KERNELS."""
    own_map: FloatArray
    """``[row / 16, column / 16]``: noise map of the sample itself."""
    kernel: int
    """Index in KERNELS of the texture closest to the sample's own noise."""


def _detail(fields: FloatArray) -> torch.Tensor:
    x = torch.from_numpy(fields)[:, None]
    return x - gaussian(x, FINE_SIGMA)


def level_of(hu: FloatArray) -> float:
    """Noise level of one slice in HU (``noise.flat_tissue``)."""
    return float(flat_tissue(torch.from_numpy(hu)[None, None])[2])


def flat_pixels(hu: FloatArray) -> NDArray[np.bool_]:
    """Where one slice shows flat soft tissue (``noise.flat_tissue``)."""
    flat: NDArray[np.bool_] = flat_tissue(torch.from_numpy(hu)[None, None])[1][0, 0].numpy() > 0
    return flat


def add_noise_fields(sample: Sample, fields: FloatArray) -> Noisy:
    """Measure ``fields`` ``[realisation, row, column]`` where the sample is flat, and match its texture."""
    hu = sample.slices[1]
    detail, flat, level = flat_tissue(torch.from_numpy(hu)[None, None])
    texture = lag_one(detail, flat)
    maps, textures = [], []
    for cutoff, boost in KERNELS:
        noise = _detail(with_kernel(fields, cutoff, boost))
        power = noise.square().mean(dim=0, keepdim=True)
        overall = ((flat * power).sum() / flat.sum().clamp(min=1)).sqrt()
        maps.append(spread(power, flat, overall.view(1))[0, 0, 8::16, 8::16].numpy())
        textures.append(lag_one(noise, flat.expand_as(noise)))
    own = spread(detail.square(), flat, level)[0, 0, 8::16, 8::16].numpy()
    nearest = int(np.argmin(np.abs(np.asarray(textures) - texture)))
    return Noisy(sample, fields.astype(np.float16), np.stack(maps), own, nearest)


def low_dose(sample: Sample, doses: tuple[float, ...], rng: np.random.Generator) -> list[FloatArray]:
    """``sample.slices`` as if acquired with each of ``doses`` (fractions of the original), each slice on its own.

    The photon count of the original is chosen so that the simulation at full dose is as noisy as the slice is. A
    single slice stays three times the same. All doses share the noise pattern.
    """
    simulated = noise_fields(sample.slices[1], sample.spacing_mm, len(sample.slices), rng)
    trial = add_noise_fields(sample, simulated.at(REFERENCE_PHOTONS))
    ratio = float(np.median(trial.field_maps[trial.kernel]) / np.median(trial.own_map))
    lowered = []
    for dose in doses:
        noise = with_kernel(simulated.at(REFERENCE_PHOTONS * ratio**2, dose), *KERNELS[trial.kernel])
        if sample.single:
            noise[:] = noise[1]
        lowered.append(np.clip(sample.slices + noise, FLOOR_HU, CEILING_HU))
    return lowered

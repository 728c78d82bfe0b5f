"""Texture and edges on a water phantom: noise power spectrum and task transfer function of the denoiser.

The phantom is a cylinder of water with an insert; its noise is simulated (``lowdose.py``). Spectra are averaged over
many realisations, so that chance does not decide. Definitions: AAPM Task Group Report 233 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtr

from pipelines.denoise.training.lowdose import noise_fields, with_kernel
from pipelines.denoise.training.peers import rise_distance

FloatArray = NDArray[np.float32]
Denoise = Callable[[FloatArray], FloatArray]
"""From ``[3, row, column]`` to the denoised middle slice."""

SEED = 4
SIZE, SPACING_MM = 256, 1.4
WATER_RADIUS, INSERT_RADIUS, EDGE_SIGMA = 110, 40, 1.2
"""Pixels; edges are blurred by a Gaussian."""
REALISATIONS = 24
KERNEL = (0.30, 0.0)
"""Cutoff and boost of the reconstruction kernel (``lowdose.with_kernel``): a soft-tissue one."""
OVERSAMPLING = 4
"""Points of the edge profile in a pixel."""
REGION = 28
"""Half the side, in pixels, of the square inside the insert where noise is measured."""


@dataclass(frozen=True, eq=False)
class NoisePower:
    """Radial noise power spectrum; frequencies in cycles per pixel, power in HU squared times pixels squared."""

    noise_hu: float
    frequencies: FloatArray
    power: FloatArray

    @property
    def mean_frequency(self) -> float:
        """Where the noise power lies on average: lower is a coarser, blotchier texture."""
        weight = self.power * self.frequencies  # rings grow with their radius
        return float((weight * self.frequencies).sum() / weight.sum())


@dataclass(frozen=True, eq=False)
class Response:
    """One image chain on the phantom; frequencies in cycles per pixel."""

    rise_px: float
    """10 to 90 % rise distance of the insert's edge."""
    noise: NoisePower
    ttf_frequencies: FloatArray
    ttf: FloatArray
    """Task transfer function, 1 at frequency 0."""

    @property
    def ttf_half(self) -> float:
        """Frequency at which half the contrast is left."""
        below = int(np.argmax(self.ttf < 0.5))
        around = slice(below, below - 2, -1)  # np.interp wants them rising
        return float(np.interp(0.5, self.ttf[around], self.ttf_frequencies[around]))


def responses(contrast: float, noise_hu: float, chains: Mapping[str, Denoise]) -> dict[str, Response]:
    """Send the same noisy phantoms through every one of ``chains``; ``contrast`` of the insert and noise in HU."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :])
    water, insert = (ndtr((r - radius) / EDGE_SIGMA) for r in (WATER_RADIUS, INSERT_RADIUS))
    phantom = (-1000 + 1000 * water + contrast * insert).astype(np.float32)
    rng = np.random.default_rng(SEED)
    fields = with_kernel(noise_fields(phantom, SPACING_MM, 4, rng).at(1e5), *KERNEL)
    images: dict[str, list[FloatArray]] = {name: [] for name in chains}
    for _ in range(REALISATIONS):
        mix = np.linalg.qr(rng.standard_normal((4, 4)))[0][:3].astype(np.float32)
        noise = np.tensordot(mix, fields, axes=1)
        stack = phantom + noise * np.float32(noise_hu / noise[:, radius < INSERT_RADIUS - 5].std())
        for name, chain in chains.items():
            images[name].append(chain(stack))
    return {name: _response(np.stack(seen), radius) for name, seen in images.items()}


def _response(images: FloatArray, radius: NDArray[np.float64]) -> Response:
    first, count = INSERT_RADIUS - 10, 20 * OVERSAMPLING
    bins = np.round((radius - first) * OVERSAMPLING).astype(int)
    ring = (bins >= 0) & (bins < count)
    sums = np.bincount(bins[ring], images.mean(axis=0)[ring], count)
    profile = (sums / np.bincount(bins[ring], minlength=count)).astype(np.float32)
    # the line spread function, windowed: far from the edge there is only what is left of the noise
    spread = np.gradient(profile) * np.hanning(count)
    transfer = np.abs(np.fft.rfft(spread, 8 * count))
    frequencies = np.fft.rfftfreq(8 * count, 1 / OVERSAMPLING)
    seen = frequencies <= 0.5
    radii = (first + np.arange(count) / OVERSAMPLING).astype(np.float32)
    return Response(
        rise_distance(radii, profile),
        radial_power(images),
        frequencies[seen].astype(np.float32),
        (transfer[seen] / transfer[0]).astype(np.float32),
    )


def radial_power(images: FloatArray) -> NoisePower:
    """Noise power in the middle of ``images`` ``[realisation, SIZE, SIZE]``, about their mean."""
    middle = np.s_[:, SIZE // 2 - REGION : SIZE // 2 + REGION, SIZE // 2 - REGION : SIZE // 2 + REGION]
    noise = (images - images.mean(axis=0))[middle] * math.sqrt(len(images) / (len(images) - 1))
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0) / noise[0].size
    f = np.fft.fftfreq(2 * REGION)
    distance = np.round(np.hypot(f[:, None], f[None, :]) * 2 * REGION).astype(int)
    rings = np.bincount(distance.ravel(), power.ravel()) / np.bincount(distance.ravel())
    return NoisePower(
        float(noise.std()),
        (np.arange(1, REGION + 1) / (2 * REGION)).astype(np.float32),
        rings[1 : REGION + 1].astype(np.float32),
    )


def draw(seen: Mapping[str, Response], path: Path, title: str) -> None:
    """Task transfer function and noise power of every chain as PNG."""
    figure = Figure(figsize=(10, 4))
    transfer, power = figure.subplots(1, 2)
    for name, response in seen.items():
        transfer.plot(response.ttf_frequencies, response.ttf, label=f"{name}: half at {response.ttf_half:.2f}")
        power.plot(response.noise.frequencies, response.noise.power, label=f"{name}: {response.noise.noise_hu:.0f} HU")
    for axes, label in ((transfer, "task transfer function"), (power, "noise power, HU² px²")):
        axes.set_xlabel("cycles per pixel")
        axes.set_ylabel(label)
        axes.legend()
    power.set_yscale("log")
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)

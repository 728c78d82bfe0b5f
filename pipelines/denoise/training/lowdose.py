"""Low dose simulated in the projection domain: filtered back-projection of *only the noise*, added to the slice.

The slice itself is never reconstructed again, so its sharpness is kept. Parallel beam, quantum (Poisson) and electronic
noise, after Yu et al., J Comput Assist Tomogr 2012 and Zeng et al., IEEE TNS 2015: with N0 photons per ray and line
integral p, the variance of a projection is exp(p) / N0 + ELECTRONIC * exp(2 p) / N0^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

WATER_PER_MM = 0.0195
"""Linear attenuation of water, 1/mm, at about 65 keV (the mean of a 120 kVp beam)."""
ELECTRONIC = 60.0
"""Variance of the electronic noise in photons squared."""
REFERENCE_PHOTONS = 1e5
VIEWS = 600
_FORWARD_SIZE = 192
_UPSAMPLING = 4

FloatArray = NDArray[np.float32]


def line_integrals(hu: FloatArray, spacing_mm: float, views: int = VIEWS) -> FloatArray:
    """Parallel projections of the object, ``[view, detector]``, 0 to 180 degrees; one detector element per pixel.

    ``hu`` is a square slice ``[row, column]`` in HU. The projection is made on a coarse copy: noise variance
    varies slowly along the detector.
    """
    size = hu.shape[0]
    mu = torch.from_numpy(np.clip(hu, -1000, 3000) / 1000 + 1)[None, None] * WATER_PER_MM
    mu = torch.nn.functional.interpolate(mu, size=(_FORWARD_SIZE, _FORWARD_SIZE), mode="area")
    angles = torch.arange(views) * (np.pi / views)
    axis = (torch.arange(_FORWARD_SIZE) + 0.5) / _FORWARD_SIZE * 2 - 1
    sums = []
    for chunk in angles.split(25):
        along, across = torch.meshgrid(axis, axis, indexing="ij")
        c, s = chunk.cos()[:, None, None], chunk.sin()[:, None, None]
        grid = torch.stack([c * across - s * along, s * across + c * along], dim=-1)
        rotated = grid_sample(mu.expand(len(chunk), -1, -1, -1), grid, align_corners=False)
        sums.append(rotated.sum(dim=2)[:, 0])
    coarse = torch.cat(sums) * (spacing_mm * size / _FORWARD_SIZE)
    full = torch.nn.functional.interpolate(coarse[None], size=size, mode="linear", align_corners=False)[0]
    return full.numpy()


def ramp_filtered(sinogram: FloatArray) -> FloatArray:
    """Ram-Lak filter along the detector (last axis), unit detector pitch, no apodisation."""
    count = sinogram.shape[-1]
    length = 1 << (2 * count - 1).bit_length()
    response = np.abs(np.fft.rfftfreq(length)).astype(np.float32)
    spectrum = np.fft.rfft(sinogram, n=length, axis=-1) * response
    return np.fft.irfft(spectrum, n=length, axis=-1)[..., :count].astype(np.float32)


def back_projected(filtered: FloatArray) -> FloatArray:
    """Back-project ``[realisation, view, detector]`` onto a square ``[realisation, row, column]`` grid of that width.

    Nearest neighbour in projections that were interpolated four-fold. Points beyond the detector read its last element.
    """
    realisations, views, size = filtered.shape
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(filtered).permute(1, 0, 2), scale_factor=_UPSAMPLING, mode="linear", align_corners=False
    )
    table = fine.permute(0, 2, 1).contiguous()  # [view, fine detector, realisation]
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    out = torch.zeros(size * size, realisations)
    last = size * _UPSAMPLING - 1
    for view in range(views):
        angle = view * np.pi / views
        position = axis[None, :] * float(np.cos(angle)) + axis[:, None] * float(np.sin(angle))
        index = ((position + size / 2) * _UPSAMPLING).long().clamp_(0, last).view(-1)
        out += table[view].index_select(0, index)
    return (out * (np.pi / views)).T.reshape(realisations, size, size).numpy()


@dataclass(frozen=True, eq=False)
class NoiseFields:
    """Independent full-band noise of one slice for REFERENCE_PHOTONS, ``[realisation, row, column]`` in HU each."""

    quantum: FloatArray
    electronic: FloatArray

    def at(self, photons: float, dose: float | None = None) -> FloatArray:
        """The noise of a scan with ``photons`` per ray, or with ``dose`` (between 0 and 1) what must be added to it.

        Added noise makes such a scan look like one with ``dose * photons``.
        """
        ratio = REFERENCE_PHOTONS / photons
        quantum, electronic = (1.0, 1.0) if dose is None else (1 / dose - 1, 1 / dose**2 - 1)
        return self.quantum * np.float32((ratio * quantum) ** 0.5) + self.electronic * np.float32(
            ratio * electronic**0.5
        )


def noise_fields(hu: FloatArray, spacing_mm: float, realisations: int, rng: np.random.Generator) -> NoiseFields:
    """Simulate a square slice ``[row, column]`` in HU; only a ramp filter is applied, so all frequencies are there."""
    survival = np.exp(np.minimum(line_integrals(hu, spacing_mm), 9.0))
    white = rng.standard_normal((2, realisations, *survival.shape), dtype=np.float32)
    white[0] *= np.sqrt(survival / REFERENCE_PHOTONS)
    white[1] *= np.sqrt(np.float32(ELECTRONIC)) * survival / REFERENCE_PHOTONS
    fields = back_projected(ramp_filtered(white.reshape(2 * realisations, *survival.shape)))
    fields *= np.float32(1000 / WATER_PER_MM / spacing_mm)
    return NoiseFields(fields[:realisations], fields[realisations:])


def with_kernel(fields: FloatArray, cutoff: float, boost: float) -> FloatArray:
    """Apply a reconstruction kernel's frequency response to ramp-filtered noise ``[..., row, column]``.

    Response ``(1 + boost u^2) exp(-1.386 u^2)`` with ``u = f / cutoff``, ``cutoff`` in cycles per pixel: soft-tissue
    kernels are near cutoff 0.3 and boost 0, sharp ones near 0.5 and boost 2.
    """
    rows, columns = fields.shape[-2:]
    u2 = (np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None, :] ** 2) / cutoff**2
    response = ((1 + boost * u2) * np.exp(-1.386 * u2)).astype(np.float32)
    return np.fft.irfft2(np.fft.rfft2(fields) * response, s=(rows, columns)).astype(np.float32)

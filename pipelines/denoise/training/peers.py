"""Classical denoisers and figures of merit for comparison. Slices are ``[row, column]`` in HU."""

from __future__ import annotations

import importlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import curve_fit
from scipy.special import ndtr, ndtri
from torch.nn.functional import avg_pool2d, pad

from pipelines.denoise.noise import gaussian

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

PSNR_RANGE_HU = 4095.0
SSIM_WINDOW_HU = (-160.0, 240.0)
"""SSIM is computed on the usual soft-tissue window, where noise disturbs reading."""
SEARCH, PATCH_RADIUS = 5, 2
"""Non-local means: search 11 x 11, patches 5 x 5 (Buades et al., CVPR 2005)."""


def gaussian_filter(hu: FloatArray, strength: float) -> FloatArray:
    """Gaussian of ``strength`` pixels."""
    return gaussian(torch.from_numpy(hu)[None, None], strength)[0, 0].numpy()


def non_local_means(hu: FloatArray, noise_hu: float, strength: float) -> FloatArray:
    """Non-local means with ``h = strength * noise_hu``."""
    image = torch.from_numpy(hu)[None, None]
    padded = pad(image, (SEARCH,) * 4, mode="replicate")
    rows, columns = hu.shape
    total, weights = torch.zeros_like(image), torch.zeros_like(image)
    size = 2 * PATCH_RADIUS + 1
    for dy in range(2 * SEARCH + 1):
        for dx in range(2 * SEARCH + 1):
            shifted = padded[..., dy : dy + rows, dx : dx + columns]
            distance = avg_pool2d((shifted - image).square(), size, 1, PATCH_RADIUS, count_include_pad=False)
            weight = torch.exp(-(distance - 2 * noise_hu**2).clamp(min=0) / (strength * noise_hu) ** 2)
            total += weight * shifted
            weights += weight
    return (total / weights)[0, 0].numpy()


def bm3d(hu: FloatArray, noise_hu: float, strength: float) -> FloatArray:
    """BM3D of the package ``bm3d`` (not a dependency; for non-commercial use) with ``sigma = strength * noise_hu``."""
    result: FloatArray = importlib.import_module("bm3d").bm3d(hu.astype(np.float64), strength * noise_hu)
    return result.astype(np.float32)


def body(hu: FloatArray) -> BoolArray:
    """The patient without air around and most of the table: filled largest region above -300 HU."""
    labels, count = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    if not count:
        return np.zeros(hu.shape, bool)
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    filled: BoolArray = ndimage.binary_fill_holes(labels == largest)
    return filled


def rmse(image: FloatArray, truth: FloatArray, mask: BoolArray) -> float:
    """Root mean square difference in HU inside ``mask``."""
    return math.sqrt(float(np.square(image[mask] - truth[mask], dtype=np.float64).mean()))


def psnr(image: FloatArray, truth: FloatArray, mask: BoolArray) -> float:
    """PSNR in dB inside ``mask``, for the range of 12-bit CT (4095 HU)."""
    return 20 * math.log10(PSNR_RANGE_HU / rmse(image, truth, mask))


def noise_free_gain(image: FloatArray, low: FloatArray, full: FloatArray, dose: float, mask: BoolArray) -> float:
    """Gain of PSNR in dB against the slice *without any* noise, which nobody has seen: an estimate.

    ``full`` is c + n with unknown own noise n, ``low`` is ``full`` + m with known simulated noise m of r = 1 / dose - 1
    times its variance. As m is r independent noises like n, an output f has E<f, n> = E<f, m> / r, and so
    E|f - c|^2 = E|f - full|^2 + 2 E<f - full, m> / r - E|m|^2 / r. It holds as far as the simulation looks like n.
    """
    r = 1 / dose - 1
    added, error = ((a[mask] - full[mask]).astype(np.float64) for a in (low, image))
    before = float(np.square(added).mean()) * (1 + 1 / r)
    after = float(np.square(error).mean() + 2 * (error * added).mean() / r - np.square(added).mean() / r)
    return 10 * math.log10(before / max(after, 1e-3 * before))


def ssim(image: FloatArray, truth: FloatArray, mask: BoolArray) -> float:
    """SSIM (Wang et al., IEEE TIP 2004: Gaussian 1.5 pixels, K 0.01 and 0.03) inside ``mask``, soft-tissue window."""
    low, high = SSIM_WINDOW_HU
    x, y = (torch.from_numpy(np.clip(a, low, high) - low)[None, None].double() for a in (image, truth))
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    mx, my = gaussian(x, 1.5), gaussian(y, 1.5)
    vx, vy = gaussian(x * x, 1.5) - mx * mx, gaussian(y * y, 1.5) - my * my
    vxy = gaussian(x * y, 1.5) - mx * my
    value = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(value[0, 0].numpy()[mask].mean())


def rise_distance(radii: FloatArray, profile: FloatArray) -> float:
    """10 to 90 % rise distance, in the unit of ``radii``, of the error function that fits an edge best."""

    def edge(r: FloatArray, low: float, high: float, at: float, sigma: float) -> FloatArray:
        result: FloatArray = high + (low - high) * ndtr((r - at) / abs(sigma))
        return result

    start = (profile[-5:].mean(), profile[:5].mean(), radii.mean(), 1.0)
    fitted, _ = curve_fit(edge, radii, profile, p0=start)
    return 2 * float(ndtri(0.9)) * abs(float(fitted[3]))

"""Noise of a CT slice: a map of the local standard deviation, measured in flat soft tissue."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

TISSUE_HU = (-200.0, 300.0)
"""Range of the smoothed slice that counts as soft tissue; noise is measured there and extended to the rest."""
FINE_SIGMA = 2.5
"""Pixels; what a Gaussian of this width takes away is noise or an edge, and edges are left out."""
FLAT_GRADIENT = 1.2
"""A pixel is flat when the gradient of the smoothed slice is below this multiple of the median in tissue."""
OUTLIER = 3.5
"""Fine detail beyond this multiple of the slice's robust standard deviation is an edge, not noise."""
BLOCK = 16
"""Pixels; the map is computed on blocks of this size and interpolated."""
SPREAD_BLOCKS = 2.5
"""Blocks; width of the Gaussian that extends the measurement to where there is no flat tissue."""
PRIOR = 0.03
"""Fraction of flat pixels at which a neighbourhood counts as much as the slice's own level."""
MIN_FLAT_PIXELS = 400
"""Below this a slice has no measurable noise (empty, or all edges) and the map is zero."""


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Blur ``[batch, 1, row, column]`` with a Gaussian of ``sigma`` pixels, edges replicated."""
    radius = max(1, round(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    image = conv2d(pad(image, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return conv2d(pad(image, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))


def flat_tissue(hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where noise shows undisturbed in ``hu`` ``[batch, 1, row, column]``.

    Returns the fine detail, the mask (float 0/1) of flat soft tissue, both of the shape of ``hu``, and per slice the
    robust standard deviation of the detail there ``[batch]``, zero where too little flat tissue is found.
    """
    smooth = gaussian(hu, FINE_SIGMA)
    detail = hu - smooth
    tissue = (smooth > TISSUE_HU[0]) & (smooth < TISSUE_HU[1])
    gradient = torch.zeros_like(smooth)
    gradient[..., 1:-1, 1:-1] = torch.hypot(
        smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1], smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    )
    magnitude = detail.abs()
    flat, level = _flat(magnitude, gradient, tissue)
    # Noise differs several-fold within a slice: what counts as an edge is judged again by the noise around it.
    around = spread(detail.square(), flat, level).clamp(min=1e-3)
    flat, _ = _flat(magnitude / around, gradient / around, tissue)
    return detail, flat, level


def _flat(magnitude: Tensor, gradient: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
    """Mask of flat pixels and robust standard deviation per slice, from magnitudes of detail and gradient."""
    flat = torch.zeros_like(magnitude)
    level = torch.zeros(len(flat), dtype=flat.dtype, device=flat.device)
    for i in range(len(flat)):
        inside = gradient[i][tissue[i]]
        if inside.numel() >= MIN_FLAT_PIXELS:
            chosen = tissue[i] & (gradient[i] < FLAT_GRADIENT * inside[::4].median())
            level[i] = 1.4826 * magnitude[i][chosen][::4].median()  # of a normal distribution
            flat[i] = (chosen & (magnitude[i] <= OUTLIER * level[i])).to(flat.dtype)
    return flat, level


def noise_level(hu: Tensor) -> Tensor:
    """One figure per slice ``[batch]``: standard deviation (HU) of fine detail in flat soft tissue, zero if none."""
    return flat_tissue(hu)[2]


def spread(power: Tensor, flat: Tensor, level: Tensor) -> Tensor:
    """Smooth map of the standard deviation, shape of ``power``, from squared detail where ``flat`` is 1.

    Blocks of 16 pixels, wide averaging; ``level`` ``[batch]`` takes over far from any flat tissue.
    """
    rows, columns = power.shape[-2:]
    fill = (0, -columns % BLOCK, 0, -rows % BLOCK)
    weight = gaussian(avg_pool2d(pad(flat, fill), BLOCK), SPREAD_BLOCKS)
    total = gaussian(avg_pool2d(pad(flat * power, fill), BLOCK), SPREAD_BLOCKS)
    variance = (total + PRIOR * level.square().view(-1, 1, 1, 1)) / (weight + PRIOR)
    full = interpolate(variance, scale_factor=BLOCK, mode="bilinear", align_corners=False)
    return full[..., :rows, :columns].sqrt()


def noise_map(hu: Tensor) -> Tensor:
    """Local standard deviation of the noise in HU, same shape as ``hu`` ``[batch, 1, row, column]``.

    Zero for a slice in which too little flat soft tissue is found.
    """
    detail, flat, level = flat_tissue(hu)
    return spread(detail.square(), flat, level)

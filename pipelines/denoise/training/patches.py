"""Training pairs: crops of real slices with simulated additional noise of random strength and texture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from pipelines.denoise.training.data import CEILING_HU, FLOOR_HU, KERNELS, FloatArray, Noisy
from pipelines.denoise.training.lowdose import with_kernel

SIZE, MARGIN = 96, 16
"""Pixels along a side of a pair, and round it for the kernel's reach while it is made."""


@dataclass(frozen=True, eq=False)
class Patch:
    """One training pair, HU."""

    slices: FloatArray
    noise_level: FloatArray
    residual: FloatArray
    weight: float


def _warped(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """``image`` ``[row, column]`` smoothly displaced by up to some pixels: the anatomy of a plausible neighbour."""
    size = image.shape[0]
    coarse = torch.from_numpy(rng.normal(0, rng.uniform(0, 3), (1, 2, 4, 4)).astype(np.float32))
    shift = interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    axis = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1) + shift * (2 / size)
    source = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return grid_sample(source, grid[None], padding_mode="border", align_corners=True)[0, 0].numpy()


def _block_mean(block_map: FloatArray, y: int, x: int, size: int) -> FloatArray:
    """The part of a map in blocks of 16 that covers a window, interpolated to ``[size, size]``."""
    part = block_map[y // 16 : (y + size) // 16 + 1, x // 16 : (x + size) // 16 + 1]
    full = interpolate(torch.from_numpy(part)[None, None], size=(size, size), mode="bilinear", align_corners=True)
    return full[0, 0].numpy()


def make_patch(noisy: Noisy, rng: np.random.Generator) -> Patch:
    """Crop, add noise of random strength and texture, and say how strong it is."""
    size = SIZE + 2 * MARGIN
    slices = noisy.sample.slices
    own, own_factor = noisy.own_map, 1.0
    halved = rng.random() < 0.3  # half resolution: an anatomy with finer structures and a cleaner target
    scale = 2 if halved else 1
    y, x = (int(rng.integers(0, n - scale * size + 1)) for n in slices.shape[1:])
    clean = slices[:, y : y + scale * size, x : x + scale * size]
    if halved:
        clean = avg_pool2d(torch.from_numpy(np.ascontiguousarray(clean))[None], 2)[0].numpy()
        own_factor = 0.6
    clean = np.ascontiguousarray(clean)
    kernel = noisy.kernel if rng.random() < 0.6 else int(rng.integers(len(KERNELS)))
    cutoff, boost = KERNELS[kernel]
    mix = np.linalg.qr(rng.standard_normal((4, 4)))[0][:3].astype(np.float32)
    crop = noisy.fields[:, y : y + size, x : x + size].astype(np.float32)
    fields = with_kernel(np.tensordot(mix, crop, axes=1), cutoff * rng.uniform(0.93, 1.07), boost)
    level = _block_mean(noisy.field_maps[kernel], y, x, size)
    target_level = own_factor * float(own[y // 16 : (y + size) // 16 + 1, x // 16 : (x + size) // 16 + 1].mean())
    choice = rng.random()
    if choice < 0.08:
        added = 0.0
    elif choice < 0.75:
        added = target_level * math.sqrt(1 / math.exp(rng.uniform(math.log(0.07), math.log(0.95))) - 1)
    else:
        added = rng.uniform(2, 110)
    factor = np.float32(added / max(float(level.mean()), 1e-3))
    fields, level = fields * factor, level * factor
    if noisy.sample.single:
        if rng.random() < 0.5:
            fields[:] = fields[1]  # what happens at the ends of a series and for single images
        else:
            clean[0], clean[2] = _warped(clean[1], rng), _warped(clean[1], rng)
    dosed = np.clip(clean + fields, FLOOR_HU, CEILING_HU)
    inner = np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    stack, level, residual = dosed[inner], level[inner], (dosed - clean)[1][inner]
    if rng.random() < 0.5:
        stack = stack[::-1]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    stack, level, residual = (
        np.rot90(a[..., ::-1] if flip else a, turns, axes=(-2, -1)).copy() for a in (stack, level, residual)
    )
    level *= np.float32(math.exp(rng.normal(0, 0.1)))  # the map is an estimate at use, too
    expected = target_level**2 * added**2 / (target_level**2 + added**2 + 1e-6)
    return Patch(stack, level, residual, 1 / (expected + 4.0))

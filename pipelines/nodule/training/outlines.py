"""Crops for the outline network: training batches and the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from pipelines.nodule.crops import CROP, PIXEL_MM, gap, nearness, stretched
from pipelines.nodule.training.augment import relit
from pipelines.nodule.training.insertion import Array
from pipelines.nodule.training.patches import Stack, hollowed

FIELD = 64
"""Pixels that the network sees of a crop in training; the rest only sets the grey scale."""
HOLLOW = 0.1
"""Share of larger nodules that are shown as cavities, which are rare."""
ELSEWHERE = 0.04
"""Share of examples that point beside the nodule, where nothing is to be outlined."""
OFTEN = {1: 0.25, 2: 0.5, 3: 1.0, 4: 1.0}
"""How often nodules come, by the number of readers who marked them."""


def agreed(stack: Stack) -> Array:
    """What is to be outlined, 0 to 1: two readers agree; the share of readers where only two or one marked anything."""
    if stack.raters >= 3:
        return (stack.readers >= 2).astype(np.float32)
    return np.asarray(stack.readers / stack.raters, np.float32)


def distance_mm(stack: Stack, slice_index: int, centre: npt.NDArray[np.float64]) -> Array:
    """From ``centre`` to each pixel of a slice."""
    pixel_mm, slice_mm = stack.pixel_mm or PIXEL_MM, stack.slice_mm or 1.0
    rows, columns = ((np.arange(CROP) - c) * pixel_mm for c in centre[1:])
    away = np.sqrt(rows[:, None] ** 2 + columns[None] ** 2 + ((slice_index - centre[0]) * slice_mm) ** 2)
    return away.astype(np.float32)


def pointed_at(rng: np.random.Generator, stack: Stack) -> npt.NDArray[np.float64]:
    """Slice, row, column that a candidate stage might give: off by a millimetre, and by more in a large nodule."""
    error_mm = 0.8 + 0.07 * stack.diameter_mm
    off = rng.normal(0, error_mm, 3).clip(-2 * error_mm, 2 * error_mm)
    target = agreed(stack)
    middle = np.argwhere(target >= target.max()).mean(0)
    return np.asarray(middle + off / [stack.slice_mm or 1.0, *[stack.pixel_mm or PIXEL_MM] * 2])


def example(rng: np.random.Generator, stack: Stack) -> tuple[Array, npt.NDArray[np.float64]]:
    """Three planes, the distance in mm from the candidate and the mask ``[5, CROP, CROP]``; row, column pointed at."""
    target = agreed(stack)
    middle = int(rng.integers(len(target)))
    step = gap(stack.slice_mm)
    index = np.clip([middle - step, middle, middle + step], 0, len(target) - 1)
    grey = stack.grey[index].astype(np.float32)
    if stack.diameter_mm > 7 and rng.random() < HOLLOW:
        grey = hollowed(rng, grey, stack.readers[index] >= 2, stack.pixel_mm)
    centre = pointed_at(rng, stack)
    wanted = target[middle]
    if rng.random() < ELSEWHERE:
        free = np.argwhere(distance_mm(stack, middle, centre) > stack.diameter_mm / 2 + 8)
        free = free[(np.abs(free - CROP / 2) < CROP / 2 - FIELD / 3).all(1)]
        if len(free):
            centre = np.array([middle, *free[int(rng.integers(len(free)))]], float)
            wanted = np.zeros_like(wanted)
    return np.stack([*stretched(grey), distance_mm(stack, middle, centre), wanted]), centre[1:]


def outline_batches(seed: int, stacks: Sequence[Stack], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches ``planes [n,4,FIELD,FIELD]``, ``mask [n,FIELD,FIELD]``: turned, mirrored, scaled, shifted."""
    rng = np.random.default_rng(seed)
    chance = np.array([OFTEN[min(4, s.raters)] for s in stacks])
    chance /= chance.sum()
    while True:
        rows = [example(rng, stacks[i]) for i in rng.choice(len(stacks), size, p=chance)]
        angle = rng.integers(4, size=size) * np.pi / 2 + np.where(rng.random(size) < 0.5, rng.normal(0, 0.4, size), 0)
        scale = np.where(rng.random(size) < 0.7, np.exp(rng.normal(0, 0.15, size)), 1.0).clip(0.7, 1.5)
        mirror = rng.choice([-1, 1], size)
        theta = np.zeros((size, 2, 3))
        theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle) * mirror, -np.sin(angle)
        theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle) * mirror, np.cos(angle)
        theta[:, :, :2] *= (scale * FIELD / CROP)[:, None, None]
        # The candidate is in the middle, give or take a few pixels; the grid counts columns first, from -1 to 1.
        at = np.stack([c for _, c in rows])[:, ::-1] + rng.uniform(-6, 6, (size, 2))
        theta[:, :, 2] = (at + 0.5) / CROP * 2 - 1
        grid = F.affine_grid(torch.from_numpy(theta.astype(np.float32)), [size, 1, FIELD, FIELD], align_corners=False)
        picture = torch.from_numpy(np.stack([p for p, _ in rows]))
        seen = F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
        away = seen[:, 3].numpy() / scale[:, None, None]
        near = torch.from_numpy(nearness(away))[:, None]
        yield torch.cat([relit(rng, seen[:, :3]), near], 1), seen[:, 4].contiguous()


def outline_loss(output: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy plus the soft Dice of each crop, what the outlines are judged by."""
    logit = output[:, 0].float()
    chance = logit.sigmoid()
    both = 2 * (chance * mask).sum((1, 2)) + 4
    dice = both / (chance.sum((1, 2)) + mask.sum((1, 2)) + 4)
    return 8 * F.binary_cross_entropy_with_logits(logit, mask) + (1 - dice).mean()

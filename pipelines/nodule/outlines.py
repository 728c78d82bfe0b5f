"""Crops for the outline network: training batches and the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage
from torch import Tensor

from pipelines.nodule.crops import gap, stretched
from pipelines.nodule.insertion import Array
from pipelines.nodule.patches import Stack, hollowed

FIELD = 72
"""Pixels that the network sees of it in training; the rest only sets the grey scale."""
HOLLOW = 0.1
"""Share of larger nodules that are shown as cavities, which are rare."""


def example(rng: np.random.Generator, stack: Stack) -> tuple[Array, Array, Array]:
    """Three planes ``[3, FIELD, FIELD]``, consensus of two readers and weight (0 where only one marked)."""
    count = len(stack.grey)
    middle = int(rng.integers(count))
    step = gap(stack.slice_mm)
    index = np.clip([middle - step, middle, middle + step], 0, count - 1)
    if rng.random() < 0.5:
        index = index[::-1]
    grey = stack.grey[index].astype(np.float32)
    if stack.diameter_mm > 7 and rng.random() < HOLLOW:
        grey = hollowed(rng, grey, stack.readers[index] >= 2, stack.pixel_mm)
    planes = stretched(grey)
    votes = stack.readers[middle]
    mask, known = votes >= 2, votes != 1
    if stack.raters == 1:
        mask, known = np.zeros_like(mask), votes == 0
    # The field is shifted so far that the nodule is anywhere in it, and often outside.
    scale = float(rng.uniform(0.8, 1.25)) if rng.random() < 0.6 else 1.0
    picture = np.concatenate([planes, mask[None], known[None]]).astype(np.float32)
    if scale != 1.0:
        picture = np.stack([ndimage.zoom(p, scale, order=1 if i < 3 else 0) for i, p in enumerate(picture)])
    y, x = (int(rng.integers(picture.shape[1] - FIELD + 1)) for _ in range(2))
    picture = picture[:, y : y + FIELD, x : x + FIELD]
    picture = np.rot90(picture, int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        picture = picture[:, :, ::-1]
    seen = picture[:3] ** float(np.exp(rng.normal(0, 0.12)))
    seen = seen * rng.uniform(0.85, 1.15) + rng.normal(0, 0.03)
    if rng.random() < 0.4:
        seen = seen + rng.standard_normal(seen.shape) * rng.uniform(0, 0.03)
    return np.ascontiguousarray(seen, np.float32), picture[3].copy(), picture[4].copy()


def outline_batches(seed: int, found: Sequence[Stack], size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches ``planes [n,3,y,x]``, ``mask [n,y,x]``, ``weight [n,y,x]``; firm nodules come more often."""
    rng = np.random.default_rng(seed)
    chance = np.array([0.25 if s.raters == 1 else 1.0 for s in found])
    chance /= chance.sum()
    while True:
        rows = [example(rng, found[i]) for i in rng.choice(len(found), size, p=chance)]
        planes, mask, known = (torch.from_numpy(np.stack(a)) for a in zip(*rows, strict=True))
        yield planes, mask, known


def outline_loss(output: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy (nodule pixels count five times) plus soft Dice over the batch."""
    logit = output[:, 0].float()
    entropy = F.binary_cross_entropy_with_logits(logit, mask, weight=known * (1 + 4 * mask))
    chance = logit.sigmoid() * known
    dice = (2 * (chance * mask).sum() + 1) / (chance.sum() + (mask * known).sum() + 1)
    return 5 * entropy + 1 - dice

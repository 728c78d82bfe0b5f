"""Augmentation of crops: brightness, contrast, sharpness and noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor


def relit(rng: np.random.Generator, seen: Tensor) -> Tensor:
    """``[n, planes, y, x]``, 0 to 1: each with another contrast and noise, some in reverse order, some blurred."""
    count = len(seen)

    def column(values: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None, None, None]

    seen = torch.where(column(rng.random(count)) < 0.5, seen.flip(1), seen)
    seen = torch.where(column(rng.random(count)) < 0.12, seen[:, 1:2], seen)
    soft = F.avg_pool2d(seen, 3, 1, 1, count_include_pad=False)
    seen = seen.lerp(soft, column(np.where(rng.random(count) < 0.3, rng.uniform(0.3, 1, count), 0)))
    seen = seen.clamp(min=1e-3) ** column(np.exp(rng.normal(0, 0.15, count)))
    seen = seen * column(rng.uniform(0.85, 1.15, count)) + column(rng.normal(0, 0.04, count))
    noise = torch.from_numpy(rng.standard_normal(seen.shape, np.float32))
    return seen + noise * column(np.where(rng.random(count) < 0.4, rng.uniform(0, 0.04, count), 0))

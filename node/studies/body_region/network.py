"""The network: four convolutions, the mean and the largest value of each feature, one layer; 48,000 weights.

How it was trained and on what is in docs/development/validation.md. It runs with numpy, because the process that
decodes strangers' images should load neither a framework nor its memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from node.config.characteristics import CHARACTERISTICS
from node.errors import WeightsError

Floats = NDArray[np.float32]
CLASSES = (*CHARACTERISTICS["body_region"], "other")
"""Of a slice. *other*: limbs, slices that are not axial, phantoms, and everything else that is none of the regions."""
WEIGHTS = Path(__file__).with_name("weights.safetensors")
_STRIDE = 2
_WINDOWS_HU = ((-160.0, 240.0), (150.0, 1000.0), (-1000.0, -150.0))
"""Soft tissue, bone, and lung and fat: what the three channels spread from 0 to 1."""


def class_probabilities(slices: Floats) -> Floats:
    """Return ``[slice, class]`` for HU ``[slice, row, column]`` as ``scaled`` returns them."""
    weights = _weights()
    values = channels(slices)
    for layer in range(4):
        values = np.maximum(_convolved(values, weights[f"w{layer}"], weights[f"b{layer}"]), 0)
    features = np.concatenate([values.mean((2, 3)), values.max((2, 3))], axis=1)
    scores = features @ weights["w4"].T + weights["b4"]
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float32)


def channels(slices: Floats) -> Floats:
    """Return what the network sees of slices in HU: ``[slice, channel, row, column]`` from 0 to 1."""
    spread = [np.clip((slices - low) / (high - low), 0, 1) for low, high in _WINDOWS_HU]
    return np.asarray(np.stack(spread, axis=1), dtype=np.float32)


def _convolved(values: Floats, kernels: Floats, bias: Floats) -> Floats:
    """Convolve ``[slice, channel, row, column]`` with stride 2, surrounded by zeros."""
    side = kernels.shape[-1]
    margin = side // 2
    padded = np.pad(values, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    windows = windows[:, :, ::_STRIDE, ::_STRIDE]
    return np.einsum("ncyxij,ocij->noyx", windows, kernels, optimize=True) + bias[:, None, None]


@lru_cache(maxsize=1)
def _weights() -> Mapping[str, Floats]:
    """Read the packaged weights. Raises ``WeightsError`` when they are not those that are pinned."""
    try:
        content = WEIGHTS.read_bytes()
        pinned = WEIGHTS.with_suffix(".sha256").read_text().split()[0]
    except OSError as error:
        raise WeightsError(f"weights of the body region: {error}; install ainode again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != pinned:
        raise WeightsError(f"weights: {WEIGHTS} has SHA-256 {digest}, pinned is {pinned}; install ainode again")
    return {name: tensor.astype(np.float32) for name, tensor in load(content).items()}

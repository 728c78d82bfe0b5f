"""From a stack of slices to probabilities: intensity scale, head box, network, mirror average."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from node.pipeline import sentence
from pipelines.device import to_device
from pipelines.tumor.network import MULTIPLE, FlairNet, neighbours

BRIGHTEST = 4.0
"""Normalised intensities are cut off here; fat and eyes reach 3, brain is near 1."""
FOREGROUND = 0.15
"""Of the 99.5th percentile: what is brighter counts as head."""
INNER_PIXELS = 24
"""Depth below the skin, beyond scalp and skull."""
THIN = 4
"""Every fourth row and column is enough to find a median."""
BATCHES = (8, 4, 2, 1)
"""Slices per forward pass; less where memory does not suffice."""


def intensity_scale(stack: NDArray[np.float32] | NDArray[np.uint8]) -> float:
    """The median of the inner head: dividing by it puts brain near 1 and leaves air at 0.

    Inner is what lies ``INNER_PIXELS`` below the skin within its slice, because scalp fat is bright and its share of
    the head differs between patients. Pixels are about 0.92 mm.

    Raises ``ValueError`` when there is too little of it.
    """
    head = stack > FOREGROUND * float(np.percentile(stack, 99.5))
    inner: list[NDArray[np.float32]] = []
    for values, seen in zip(stack[:, ::THIN, ::THIN], head[:, ::THIN, ::THIN], strict=True):
        filled = np.pad(ndimage.binary_fill_holes(ndimage.binary_closing(seen, iterations=2)), 1)
        depth = ndimage.distance_transform_edt(filled)[1:-1, 1:-1] * THIN
        inner.append(values[(depth > INNER_PIXELS) & seen].astype(np.float32))
    brain = np.concatenate(inner)
    if brain.size < 500:
        raise ValueError(sentence("nothing of the size of a head stands out from the background"))
    return float(np.median(brain))


def head_box(normalised: NDArray[np.float32], margin: int = 8) -> tuple[slice, slice]:
    """Rows and columns that hold the head in any slice, with a margin, within the image."""
    inside = normalised > 2 * FOREGROUND
    box = []
    for axis in (1, 2):
        other = tuple(a for a in range(3) if a != axis)
        share = inside.mean(axis=other)
        seen = np.flatnonzero(share > 0.005)
        first, last = (int(seen[0]), int(seen[-1]) + 1) if seen.size else (0, normalised.shape[axis])
        box.append(slice(max(first - margin, 0), min(last + margin, normalised.shape[axis])))
    return box[0], box[1]


@torch.inference_mode()
def probabilities(
    network: FlairNet,
    normalised: NDArray[np.float32],
    *,
    mirror: bool = True,
    device: str = "cpu",
    batch: int = BATCHES[0],
) -> NDArray[np.float32]:
    """Probability of FLAIR abnormality, ``[slice, row, column]`` like the input (anterior up, foot to head).

    ``mirror`` averages with the prediction for the left-right mirrored head. Nothing is computed outside the head box.
    """
    rows, columns = head_box(normalised)
    crop = torch.from_numpy(np.ascontiguousarray(normalised[:, rows, columns]))
    height, width = crop.shape[1:]
    padded = to_device(torch.nn.functional.pad(crop, (0, -width % MULTIPLE, 0, -height % MULTIPLE)), device)
    parts: list[Tensor] = []
    for first in range(0, len(padded), batch):
        index = torch.arange(first, min(first + batch, len(padded)))
        x = neighbours(padded, index).to(memory_format=torch.channels_last)
        p = torch.sigmoid(network(x))
        if mirror:
            p = (p + torch.sigmoid(network(x.flip(3))).flip(3)) / 2
        parts.append(p[:, 0, :height, :width].float().cpu())
    result = np.zeros_like(normalised)
    result[:, rows, columns] = torch.cat(parts).numpy()
    return result

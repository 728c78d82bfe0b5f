"""Saliency and uncertainty of lesions on the network's grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.explain import grad_cam, spread
from pipelines.tumor.network import MULTIPLE, FlairNet, neighbours
from pipelines.tumor.prepare import head_box, probabilities

BRIGHTNESS = (0.9, 1.0, 1.1)
"""Factors of the copies: scanners and coils differ by as much after normalisation."""


def saliency(
    network: FlairNet, normalised: NDArray[np.float32], marked: NDArray[np.bool_], *, device: str, batch: int
) -> NDArray[np.float32]:
    """0 to 1 on each slice ``[slice, row, column]`` with ``marked`` voxels: what raised their logits (``grad_cam``).

    Asked at an eighth of the resolution, where the network sees tissue and no longer single pixels.
    """
    rows, columns = head_box(normalised)
    crop = torch.from_numpy(np.ascontiguousarray(normalised[:, rows, columns]))
    region = torch.from_numpy(np.ascontiguousarray(marked[:, rows, columns])).float()[:, None]
    height, width = crop.shape[1:]
    fill = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    padded, region = (torch.nn.functional.pad(x, fill).to(device) for x in (crop, region))
    result = np.zeros_like(normalised)
    chosen = torch.from_numpy(np.flatnonzero(marked.any(axis=(1, 2))))
    for part in chosen.split(batch):
        why = grad_cam(network, network.up[-3], neighbours(padded, part), region[part])
        result[part.numpy(), rows, columns] = why[:, 0, :height, :width].cpu().numpy()
    return result


def deviation(network: FlairNet, normalised: NDArray[np.float32], *, device: str, batch: int) -> NDArray[np.float32]:
    """Standard deviation of the probability over six copies: mirrored or not, in three brightnesses."""
    copies = []
    for factor in BRIGHTNESS:
        image = normalised * np.float32(factor)
        for turn in (1, -1):
            turned = np.ascontiguousarray(image[:, :, ::turn])
            seen = probabilities(network, turned, mirror=False, device=device, batch=batch)[:, :, ::turn]
            copies.append(torch.from_numpy(seen.copy()))
    return np.asarray(spread(copies).numpy(), np.float32)

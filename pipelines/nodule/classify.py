"""False-positive reduction: ``ClassifierNet`` on every candidate of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipelines.device import to_device
from pipelines.nodule.candidates import Candidate
from pipelines.nodule.crops import CROP, Window, gap
from pipelines.nodule.network import ClassifierNet


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What the classifier says of a candidate."""

    nodule: float
    """0 to 1."""
    malignancy: float
    """Expected mean score of the LIDC readers, 1 (highly unlikely) to 5 (highly suspicious)."""


@torch.inference_mode()
def judge(network: ClassifierNet, views: torch.Tensor, device: str) -> torch.Tensor:
    """Mean logits ``[n, 2]`` over the four mirror images of ``views`` (``[n, 3, VIEW, VIEW]``)."""
    seen = []
    for part in views.split(64):
        there = to_device(part, device)
        mirrored = [there, there.flip(2), there.flip(3), there.flip(2, 3)]
        answers = [network(m.contiguous(memory_format=torch.channels_last)).float() for m in mirrored]
        seen.append(torch.stack(answers).mean(0).cpu())
    return torch.cat(seen)


def classify(
    network: ClassifierNet,
    hu: npt.NDArray[np.float32],
    spacing: Sequence[float],
    candidates: Sequence[Candidate],
    device: str,
) -> list[Classification]:
    """One verdict for each of ``candidates`` in ``hu`` (``[slice, row, column]``, axial)."""
    if not candidates:
        return []
    step, edge = gap(spacing[0]), (CROP - ClassifierNet.VIEW) // 2
    views = [
        Window.round(c.centre[1], c.centre[2], spacing).cut(hu, round(c.centre[0]) + np.array([-step, 0, step]))
        for c in candidates
    ]
    inner = slice(edge, CROP - edge)
    chance = judge(network, torch.stack(views)[:, :, inner, inner], device).sigmoid()
    return [Classification(nodule=float(n), malignancy=1 + 4 * float(m)) for n, m in chance]

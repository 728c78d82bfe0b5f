"""Embeddings of nodules, by which similar ones are found: features of three networks and the size, then small heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from node.pipeline import EmbeddingSpace, sentence
from pipelines.nodule.crops import CROP, Window, gap
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.outline import Outline
from pipelines.weights import fill, load_weights

EMBEDDING_WEIGHTS = Path(__file__).with_name("embedding.safetensors")
BACKBONES, HEADS = 3, 4
FEATURES = 192
"""Of one backbone: the last channels of ``ClassifierNet``, averaged over the view and over its middle."""
DIMENSIONS = 16
"""Of one head; the embedding is all heads, one after the other."""
MOST_SLICES = 3
"""Those in which the nodule is largest are looked at."""
TYPICAL_MM, SPREAD = 6.0, 0.55
"""Median diameter of the training nodules (sphere of the same volume), and the deviation of its logarithm."""
STATEMENT = sentence(
    "In tests with nodules of patients not seen in training, {percent} % of the five most similar ones were of the "
    "same kind, malignant-looking or benign-looking (by size alone: {by_size} %).",
    percent="84",
    by_size="73",
)
"""The figures of MODEL_CARD.md."""


class EmbeddingNet(nn.Module):
    """From views of nodules and their diameters to embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(ClassifierNet() for _ in range(BACKBONES))
        features = BACKBONES * FEATURES
        self.mean = nn.Parameter(torch.zeros(features))
        self.deviation = nn.Parameter(torch.ones(features))
        self.heads = nn.ModuleList(head(features) for _ in range(HEADS))

    def features(self, views: Tensor) -> Tensor:
        """``[n, BACKBONES * FEATURES]`` of ``views`` (``[n, 3, VIEW, VIEW]``), mean of four mirror images."""
        mirrored = (views, views.flip(2), views.flip(3), views.flip(2, 3))
        seen = [[cast("ClassifierNet", backbone).features(m) for m in mirrored] for backbone in self.backbones]
        return torch.cat([torch.stack(of_one).mean(0) for of_one in seen], 1)

    def forward(self, features: Tensor, diameter_mm: Tensor) -> Tensor:
        """Unit vectors of nodules with these mean features of their views, and these diameters (``[n]``)."""
        x = torch.cat([(features - self.mean) / self.deviation, scaled(diameter_mm)[:, None]], 1)
        return F.normalize(torch.cat([F.normalize(h(x), dim=1) for h in self.heads], 1), dim=1)


def head(features: int) -> nn.Sequential:
    """One head, on ``features`` and the scaled diameter."""
    return nn.Sequential(nn.Linear(features + 1, 128), nn.ReLU(), nn.Linear(128, DIMENSIONS))


def scaled(diameter_mm: Tensor) -> Tensor:
    """Diameters as the heads take them."""
    return (diameter_mm / TYPICAL_MM).log() / SPREAD


class Embedder:
    """The packaged network, and the space of its embeddings."""

    def __init__(self, device: str) -> None:
        stored = load_weights(EMBEDDING_WEIGHTS)
        self._network = EmbeddingNet()
        fill(self._network, stored.tensors, EMBEDDING_WEIGHTS)
        self._network.eval().requires_grad_(requires_grad=False).to(device)
        self._device = device
        self.space = EmbeddingSpace(
            name=f"nodule-{stored.sha256[:12]}", dimensions=HEADS * DIMENSIONS, statement=STATEMENT
        )

    @torch.inference_mode()
    def embed(
        self, hu: npt.NDArray[np.float32], spacing: Sequence[float], outlines: Sequence[Outline]
    ) -> list[tuple[float, ...]]:
        """One embedding for each of ``outlines`` in ``hu`` (``[slice, row, column]``, axial)."""
        if not outlines:
            return []
        views = [views_of(hu, spacing, outline).to(self._device) for outline in outlines]
        features = torch.stack([self._network.features(of_one).mean(0) for of_one in views])
        diameters = torch.tensor([outline.diameter_mm for outline in outlines], device=self._device)
        return [tuple(map(float, row)) for row in self._network(features, diameters).cpu()]


def views_of(hu: npt.NDArray[np.float32], spacing: Sequence[float], outline: Outline) -> Tensor:
    """``[n, 3, VIEW, VIEW]``: the slices in which a nodule is largest, with their neighbours."""
    step, edge = gap(spacing[0]), (CROP - ClassifierNet.VIEW) // 2
    area = outline.mask.sum((1, 2))
    views = []
    for index in np.argsort(-area)[:MOST_SLICES]:
        if not area[index]:
            break
        row, column = np.argwhere(outline.mask[index]).mean(0) + [s.start for s in outline.box[1:]]
        slices = outline.box[0].start + index + np.array([-step, 0, step])
        views.append(Window.round(row, column, spacing).cut(hu, slices))
    inner = slice(edge, CROP - edge)
    return torch.stack(views)[:, :, inner, inner]


def backbone_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the first backbone: those of the packaged classifier."""
    return {f"backbones.0.{key}": value for key, value in tensors.items()}

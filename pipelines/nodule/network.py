"""The three networks: ``CandidateNet`` finds centres in 3D, ``ClassifierNet`` sorts them, ``OutlineNet`` outlines."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

HU_LOW, HU_HIGH = -1000.0, 400.0
"""Window of both networks' input in HU: lung, soft tissue and the start of bone."""
CELL_MM = 4.0
"""Edge of one heat-map cell: four voxels of 1 mm."""


def scale_hu(hu: Tensor) -> Tensor:
    """HU to the networks' input, -1 (air) to 1 (bone)."""
    return (hu.clamp(HU_LOW, HU_HIGH) - HU_LOW) * (2.0 / (HU_HIGH - HU_LOW)) - 1.0


class Residual(nn.Module):
    """Two 3x3(x3) convolutions with BatchNorm and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, dimensions: int, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv3d if dimensions == 3 else nn.Conv2d
        norm = nn.BatchNorm3d if dimensions == 3 else nn.BatchNorm2d
        self.first = conv(before, after, 3, stride, 1, bias=False)
        self.norm1 = norm(after)
        self.second = conv(after, after, 3, 1, 1, bias=False)
        self.norm2 = norm(after)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else conv(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.first(x)))
        return F.relu(self.norm2(self.second(y)) + self.shortcut(x))


class CandidateNet(nn.Module):
    """Centre points in 3D (after Zhou et al., "Objects as Points", 2019).

    Input ``[n, 1, z, y, x]``, voxels of 1 mm, scaled HU, each side a multiple of 16. Output ``[n, 5, z/4, y/4, x/4]``:
    logit of "a nodule's centre is in this cell", natural logarithm of its diameter in mm, and the centre's offset
    (z, y, x) from the middle of the cell, in cells.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, channels[0], 3, 2, 1, bias=False), nn.BatchNorm3d(channels[0]), nn.ReLU()
        )
        pairs = list(zip((channels[0], *channels), channels, strict=False))
        self.encoder = nn.ModuleList(Residual(3, a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(pairs))
        up = list(zip(channels[:1:-1], channels[-2:0:-1], strict=True))
        self.lateral = nn.ModuleList(nn.Conv3d(a, b, 1, bias=False) for a, b in up)
        self.decoder = nn.ModuleList(Residual(3, b, b) for _, b in up)
        self.head = nn.Conv3d(channels[1], 5, 1)
        # Start from "one cell in a hundred" and 8 mm, so that the first steps are not spent on the prior.
        nn.init.zeros_(self.head.weight[1:])
        self.head.bias = nn.Parameter(torch.tensor([-4.6, 2.1, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        levels: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            levels.append(x)
        for i, (lateral, decoder) in enumerate(zip(self.lateral, self.decoder, strict=True)):
            skip = levels[-2 - i]
            x = decoder(F.interpolate(lateral(x), scale_factor=2, mode="nearest") + skip)
        return self.head(x)


OUTLINE_CHANNELS = (16, 32, 64, 96)
"""Channels of ``OutlineNet`` at each level, the finest first."""


class OutlineNet(nn.Module):
    """2.5D U-Net: which pixels of the middle of three slices belong to the nodule that is pointed at.

    Input ``[n, 4, y, x]``, pixels of about 0.7 mm: neighbouring slices below and above scaled 0 to 1, and
    ``crops.nearness`` to the candidate's centre; sides multiples of 8. Output ``[n, 1, y, x]`` logits.
    """

    def __init__(self, channels: tuple[int, ...] = OUTLINE_CHANNELS) -> None:
        super().__init__()
        self.first = Residual(2, 4, channels[0])
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(Residual(2, a, b, 2) for a, b in pairs)
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1, bias=False) for a, b in reversed(pairs))
        self.up = nn.ModuleList(Residual(2, a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        levels = [x]
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        levels.pop()
        for lateral, up in zip(self.lateral, self.up, strict=True):
            skip = levels.pop()
            x = up(F.interpolate(lateral(x), scale_factor=2, mode="nearest") + skip)
        return self.head(x)


class ClassifierNet(nn.Module):
    """False-positive reduction: is the thing in the middle of three slices a nodule, and does it look malignant.

    Input as ``OutlineNet``'s, ``VIEW`` pixels wide. Output ``[n, 2]`` logits: nodule, malignant.
    """

    VIEW = 64

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        pairs = list(zip((channels[0], *channels), channels, strict=False))
        self.stages = nn.Sequential(*(Residual(2, a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(pairs)))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * channels[-1], 2))

    def features(self, x: Tensor) -> Tensor:
        """``[n, 192]``: what the answers are made of."""
        x = self.stages(self.stem(x))
        # The middle besides the average: what is in the centre is asked for.
        middle = x[:, :, 1:3, 1:3].mean((2, 3))
        return torch.cat([x.mean((2, 3)), middle], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

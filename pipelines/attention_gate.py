"""The attention gate on the skip of a U-Net (Oktay et al., MIDL 2018), to compare networks with those that ship."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

OPEN_AT_FIRST = 3.0
"""Bias of a gate's last layer: untrained gates let 95 % of a skip through."""


class Gate(nn.Module):
    """Additive attention: weighs each pixel of a skip by what the coarser level below makes of it."""

    def __init__(self, skip_channels: int, below_channels: int) -> None:
        super().__init__()
        between = skip_channels // 2
        self.of_skip = nn.Conv2d(skip_channels, between, 2, 2, bias=False)
        self.of_below = nn.Conv2d(below_channels, between, 1)
        self.weight = nn.Conv2d(between, 1, 1)
        nn.init.constant_(cast("Tensor", self.weight.bias), OPEN_AT_FIRST)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """``[batch, skip_channels, rows, columns]`` and ``[batch, below_channels, rows / 2, columns / 2]`` to a skip.

        The weight, 0 to 1, is the same for all channels; it is found at half the resolution and interpolated.
        """
        weight = torch.sigmoid(self.weight(relu(self.of_skip(skip) + self.of_below(below))))
        return skip * interpolate(weight, size=skip.shape[2:], mode="bilinear", align_corners=False)


def gates_of(channels: tuple[int, ...]) -> nn.ModuleList:
    """A gate for each skip, from the deepest; drawing their weights leaves PyTorch's random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        return nn.ModuleList(Gate(skip, below) for skip, below in reversed(list(pairwise(channels))))

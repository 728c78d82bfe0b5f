"""The network with attention gates on its skips (Oktay et al., MIDL 2018), to be compared with the one that ships."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from pipelines.tumor.network import CHANNELS, FlairNet

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


class AttentionFlairNet(FlairNet):
    """``FlairNet`` whose skips pass a gate; with the same seed, all other weights begin as those of ``FlairNet``."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__(channels)
        with torch.random.fork_rng(devices=[]):  # what is drawn later (dropout) stays that of FlairNet, too
            self.gates = nn.ModuleList(Gate(a, b) for a, b in reversed(list(pairwise(channels))))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """As ``FlairNet.forward``."""
        features = [self.stem(self.fold(x))]
        for down in self.down:
            features.append(down(features[-1]))
        y = self.drop(features.pop())
        levels: list[Tensor] = []
        for lateral, up, gate in zip(self.lateral, self.up, self.gates, strict=True):
            skip = gate(features.pop(), y)
            y = up(interpolate(lateral(y), size=skip.shape[2:], mode="nearest") + skip)
            levels.append(y)
        logits = cast("Tensor", self.unfold(self.head(y)))
        if not self.training:
            return logits
        return logits, self.aside[0](levels[-2]), self.aside[1](levels[-3])

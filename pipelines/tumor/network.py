"""The network: a residual U-Net that reads five neighbouring slices and marks the middle one.

Residual blocks after He et al. 2016; U-Net after Ronneberger et al. 2015, with additive skips. The first layer folds
2 x 2 pixels into channels (and the last unfolds them, Shi et al. 2016), so that no convolution runs at full
resolution: a quarter of the work for masks that lose nothing visible.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

SLICES = 5
"""Neighbouring slices that the network sees at once; the middle one is segmented."""
CHANNELS = (24, 48, 96, 160, 224)
"""Feature channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input resolution."""
MULTIPLE = 2 ** len(CHANNELS)
"""Rows and columns of an input must be multiples of this."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, channels_in, rows, columns]`` to ``[batch, channels_out, rows / stride, columns / stride]``."""
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class FlairNet(nn.Module):
    """``[batch, 5, rows, columns]`` intensities (brain near 1, air 0) to ``[batch, 1, rows, columns]`` logits.

    While training it returns three logit maps instead: full, 1/4 and 1/8 resolution (deep supervision).
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.stem = ResidualBlock(4 * SLICES, channels[0])
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(ResidualBlock(a, b, 2) for a, b in pairs)
        self.drop = nn.Dropout2d(0.1)
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1, bias=False) for a, b in reversed(pairs))
        self.up = nn.ModuleList(ResidualBlock(a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(channels[0], 4, 3, 1, 1)
        self.unfold = nn.PixelShuffle(2)
        self.aside = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels[1:3])

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Rows and columns must be multiples of ``MULTIPLE``."""
        features = [self.stem(self.fold(x))]
        for down in self.down:
            features.append(down(features[-1]))
        y = self.drop(features.pop())
        levels: list[Tensor] = []
        for lateral, up in zip(self.lateral, self.up, strict=True):
            skip = features.pop()
            y = up(interpolate(lateral(y), size=skip.shape[2:], mode="nearest") + skip)
            levels.append(y)
        logits = cast("Tensor", self.unfold(self.head(y)))
        if not self.training:
            return logits
        return logits, self.aside[0](levels[-2]), self.aside[1](levels[-3])


def parameter_count(network: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in network.parameters())


def neighbours(stack: Tensor, index: Tensor, step: int = 1) -> Tensor:
    """Slices around each ``index`` of ``stack [slice, row, column]``; the ends repeat the outermost slice.

    Returns ``[len(index), SLICES, row, column]``.
    """
    offsets = (torch.arange(SLICES) - SLICES // 2) * step
    at = (index[:, None] + offsets[None]).clamp(0, stack.shape[0] - 1)
    return stack[at.to(stack.device)]

"""The denoising network: a two-level residual U-Net at half resolution with the noise level as input.

After FFDNet (Zhang et al., IEEE TIP 2018: pixel-unshuffled input, noise map as an input) and without additive constants
(Mohan et al., ICLR 2020, "bias-free"), so that it scales to noise levels beyond those of training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, pixel_unshuffle

HU_SCALE = 250.0
"""HU are divided by this before they enter the network."""
NOISE_SCALE = 25.0
"""Noise levels (HU) are divided by this before they enter the network."""
SLICES = 3
"""Slices in the input: the one below, the one to denoise, the one above."""
MULTIPLE = 4
"""Rows and columns are padded to a multiple of this: one unshuffle and one strided convolution."""


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # In place: every map is megabytes that the processor would fetch and store again.
        out: Tensor = self.second(self.first(x).relu_()).add_(x)
        return out


class DenoiseNet(nn.Module):
    """Estimates the noise of the middle slice of three.

    ``forward(slices, noise)``: ``slices`` float ``[batch, 3, row, column]`` in HU, ``noise`` float
    ``[batch, 1, row, column]``, the standard deviation in HU of the noise to remove; returns the estimated noise
    ``[batch, 1, row, column]`` in HU, to be subtracted from the middle slice. Any number of rows and columns.
    """

    def __init__(self, channels: int = 40) -> None:
        super().__init__()
        wide = 2 * channels
        self.head = nn.Conv2d(4 * (SLICES + 1), channels, 3, padding=1, bias=False)
        self.fine_in = Residual(channels)
        self.down = nn.Conv2d(channels, wide, 3, stride=2, padding=1, bias=False)
        self.coarse = nn.Sequential(Residual(wide), Residual(wide))
        self.up = nn.Conv2d(wide, channels, 1, bias=False)
        self.fine_out = Residual(channels)
        self.tail = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        for block in (self.fine_in, *self.coarse, self.fine_out):
            nn.init.normal_(block.second.weight, std=1e-3)  # each block starts near the identity
        nn.init.normal_(self.tail.weight, std=1e-3)

    def forward(self, slices: Tensor, noise: Tensor) -> Tensor:
        rows, columns = slices.shape[-2:]
        x = torch.cat([slices / HU_SCALE, noise / NOISE_SCALE], dim=1)
        x = pad(x, (0, -columns % MULTIPLE, 0, -rows % MULTIPLE), mode="replicate")
        x = pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        fine = self.fine_in(self.head(x).relu_())
        coarse = self.coarse(self.down(fine).relu_())
        fine = fine + interpolate(self.up(coarse), scale_factor=2, mode="nearest")
        estimate = pixel_shuffle(self.tail(self.fine_out(fine)), 2)
        return HU_SCALE * estimate[..., :rows, :columns]

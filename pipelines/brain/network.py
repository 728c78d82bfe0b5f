"""MeshNet: a stack of dilated 3 x 3 x 3 convolutions at full resolution (Fedorov et al., IJCNN 2017)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d

DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)
_ROOM = sum(DILATIONS[1:])
_CLASS_SLAB = 8
"""Planes for which the scores of all classes exist at a time."""


class MeshNet(nn.Module):
    """The network of brainchop; every layer but the last one is followed by ``activation``, which works in place."""

    def __init__(self, channels: int, classes: int, activation: nn.Module) -> None:
        super().__init__()
        ins = (1, *[channels] * (len(DILATIONS) - 1))
        self.layers = nn.ModuleList(
            nn.Conv3d(before, channels, 3, dilation=d) for before, d in zip(ins, DILATIONS, strict=True)
        )
        self.scores = nn.Conv3d(channels, classes, 1)
        self.activation = activation

    @torch.inference_mode()
    def labels(self, image: Tensor, slab: int) -> tuple[Tensor, Tensor]:
        """Label (uint8) and its probability (float32) of each voxel of ``image``, both ``[slice, row, column]``.

        ``slab``: planes that one convolution computes at a time. There is one buffer: a layer writes each slab over
        planes that it does not read any more, as many planes below its input as its kernel reaches. Channels last:
        on a CPU the convolutions then take three quarters of the time, that of dilation 16 a quarter.
        """
        planes, start = len(image), _ROOM
        shape = (1, self.scores.in_channels, planes + _ROOM + 2, *image.shape[1:])
        buffer = torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=torch.channels_last_3d)
        padded = nn.functional.pad(image[None, None], (0, 0, 0, 0, 1, 1))
        self._layer(0, padded, buffer[:, :, start:], planes, slab)
        for number, d in enumerate(DILATIONS[1:], 1):
            buffer[:, :, start - d : start] = 0
            buffer[:, :, start + planes : start + planes + d] = 0
            self._layer(number, buffer[:, :, start - d :], buffer[:, :, start - d :], planes, slab)
            start -= d
        return self._best(buffer[:, :, start : start + planes])

    def _layer(self, number: int, padded: Tensor, out: Tensor, planes: int, slab: int) -> None:
        """Write layer ``number`` of ``padded``, whose planes begin after as many as the kernel reaches, to ``out``."""
        layer, d = cast("nn.Conv3d", self.layers[number]), DILATIONS[number]
        weight = layer.weight.contiguous(memory_format=torch.channels_last_3d)
        for at in range(0, planes, slab):
            size = min(slab, planes - at)
            seen = padded[:, :, at : at + size + 2 * d]
            out[:, :, at : at + size] = self.activation(conv3d(seen, weight, layer.bias, padding=(0, d, d), dilation=d))

    def _best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        label = torch.empty(x.shape[2:], dtype=torch.uint8, device=x.device)
        probability = torch.empty(x.shape[2:], dtype=torch.float32, device=x.device)
        for at in range(0, x.shape[2], _CLASS_SLAB):
            part = slice(at, at + _CLASS_SLAB)
            probability[part], best = self.scores(x[:, :, part])[0].softmax(0).max(0)
            label[part] = best.to(torch.uint8)
        return label, probability

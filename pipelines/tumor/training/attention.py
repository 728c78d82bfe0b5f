"""The network with attention gates on its skips, to be compared with the one that ships."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.nn.functional import interpolate

from pipelines.attention_gate import gates_of
from pipelines.tumor.network import CHANNELS, FlairNet


class AttentionFlairNet(FlairNet):
    """``FlairNet`` whose skips pass a gate; with the same seed, all other weights begin as those of ``FlairNet``."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__(channels)
        self.gates = gates_of(channels)

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

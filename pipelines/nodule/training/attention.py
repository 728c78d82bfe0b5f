"""The outline network with attention gates on its skips, to be compared with the one that ships."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from pipelines.attention_gate import gates_of
from pipelines.nodule.network import OUTLINE_CHANNELS, OutlineNet


class AttentionOutlineNet(OutlineNet):
    """``OutlineNet`` whose skips pass a gate; with the same seed, all other weights begin as in ``OutlineNet``."""

    def __init__(self, channels: tuple[int, ...] = OUTLINE_CHANNELS) -> None:
        super().__init__(channels)
        self.gates = gates_of(channels)

    def forward(self, x: Tensor) -> Tensor:
        """As ``OutlineNet.forward``."""
        x = self.first(x)
        levels = [x]
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        levels.pop()
        for lateral, up, gate in zip(self.lateral, self.up, self.gates, strict=True):
            skip = gate(levels.pop(), x)
            x = up(interpolate(lateral(x), scale_factor=2, mode="nearest") + skip)
        return self.head(x)

"""Muon, an optimiser for the convolutions between a network's first and last layer.

After Jordan et al., *Muon: an optimizer for hidden layers in neural networks*, 2024: the momentum of each weight matrix
is replaced by the nearest orthogonal one, so that every direction learns equally fast. ``torch.optim.Muon`` takes
matrices only; here a kernel ``[out, in, row, column]`` counts as a matrix of ``out`` rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (same source); five rounds bring singular values to about 0.7 to 1.2."""
ROUNDS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the orthogonal matrix nearest to ``matrix`` ``[row, column]``."""
    x = matrix / (matrix.norm() + 1e-7)
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T).T
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Stochastic gradient descent with Nesterov momentum, made orthogonal before each step."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Update every weight; a closure, which the base class allows, is not taken."""
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                update = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                factor = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.add_(orthogonal(update).view_as(weight), alpha=-group["lr"] * factor)

"""Explanation of networks: saliency, and the spread of the output over augmented copies of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from node.pipeline import Code, Map, Measurement, Volume, codes
from pipelines.structures import PRIVATE_SCHEME

SPREAD = Code("PROBABILITY-SPREAD", PRIVATE_SCHEME, "Spread of probability")


def grad_cam(network: nn.Module, layer: nn.Module, x: Tensor, region: Tensor) -> Tensor:
    """Grad-CAM: how far activations of ``layer`` raise the output of ``network`` within ``region``; 0 to 1.

    HiResCAM (Draelos and Carin 2020), for regions as in Seg-Grad-CAM (Vinogradova et al. 2020). ``x`` is
    ``[batch, channel, *space]``; ``region``, 0 or 1, of the shape of the output; the answer ``[batch, 1, *space]``.
    """
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            output = network(x.clone().requires_grad_())
            (gradient,) = torch.autograd.grad((output * region).sum(), seen[0])
    finally:
        hook.remove()
    raised = (gradient * seen[0].detach()).sum(1, keepdim=True).relu()
    fine = interpolate(raised, size=x.shape[2:], mode="bilinear" if x.ndim == 4 else "trilinear")
    return fine / fine.amax(tuple(range(1, x.ndim)), keepdim=True).clamp(min=1e-12)


def mirrored(predict: Callable[[Tensor], Tensor], x: Tensor, axes: tuple[int, ...]) -> Iterator[Tensor]:
    """What ``predict`` says of ``x`` and of each of its mirror images along ``axes``, mirrored back."""
    for count in range(len(axes) + 1):
        for chosen in combinations(axes, count):
            yield predict(x.flip(chosen)).flip(chosen)


def spread(copies: Iterable[Tensor]) -> Tensor:
    """Standard deviation of each value over ``copies``: test-time augmentation (Wang et al. 2019)."""
    return torch.stack(tuple(copies)).std(0, correction=0)


def spread_measurement(deviation: float) -> Measurement:
    """The spread of a finding's probability, 0 to 0.5, for its lesion."""
    return Measurement(
        name=SPREAD, value=100 * deviation, unit=codes.UCUM.Percent, derivation=codes.SCT.StandardDeviation
    )


def saliency_map(volume: Volume) -> Map:
    """Where the network looked, 0 to 1; shown in the key images."""
    return Map(name="Saliency", volume=volume, quantity=codes.DCM.Saliency)


def spread_map(volume: Volume) -> Map:
    """Standard deviation of the probability in every voxel."""
    return Map(name=SPREAD.meaning, volume=volume, quantity=codes.SCT.StandardDeviation)

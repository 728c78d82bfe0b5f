"""Saliency and spread of networks whose answer is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipelines.explain import grad_cam, mirrored, spread, spread_measurement
from pipelines.tumor.explain import deviation, saliency
from pipelines.tumor.network import FlairNet


class TwoSides(nn.Module):
    """Output 0 follows channel 0 of the input, output 1 channel 1."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(2, 2, 1, bias=False)
        self.features.weight.data = torch.eye(2)[:, :, None, None]

    def forward(self, x):
        return self.features(x)


def test_saliency_is_where_the_marked_output_comes_from_and_nowhere_else():
    network = TwoSides().requires_grad_(requires_grad=False)
    x = torch.zeros(1, 2, 8, 8)
    x[0, 0, 1:3, 1:3] = 2.0
    x[0, 1, 5:7, 5:7] = 4.0
    region = torch.zeros_like(x)
    region[:, 0] = 1
    with torch.inference_mode():
        why = grad_cam(network, network.features, x, region)
    assert why.shape == (1, 1, 8, 8)
    assert why[0, 0, 1:3, 1:3].min() == 1
    assert why.sum() == 4


def test_a_network_that_does_not_see_mirroring_has_no_spread():
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    same = list(mirrored(torch.sigmoid, x, (2, 3)))
    assert len(same) == 4
    assert float(spread(same).max()) < 1e-6
    ramp = torch.linspace(0, 1, 4)
    assert float(spread(mirrored(lambda y: y * ramp, x, (2, 3))).max()) > 0.05


def test_spread_is_reported_in_percent():
    measured = spread_measurement(0.07)
    assert (round(measured.value, 3), measured.unit.value) == (7.0, "%")


def test_saliency_and_spread_of_a_brain_lie_on_its_grid():
    torch.manual_seed(0)
    network = FlairNet((4, 8, 8, 8, 8)).eval()
    image = np.zeros((4, 80, 72), np.float32)
    image[:, 10:70, 10:60] = 1 + np.random.default_rng(0).uniform(0, 1, (4, 60, 50))
    marked = np.zeros(image.shape, np.bool_)
    marked[1:3, 30:40, 30:40] = True
    why = saliency(network, image, marked, device="cpu", batch=1)
    assert why.shape == image.shape
    assert why[[0, 3]].max() == 0
    assert 0 <= why.min() <= why.max() <= 1
    unsure = deviation(network, image, device="cpu", batch=2)
    assert unsure.shape == image.shape
    assert 0 < unsure.max() < 0.5

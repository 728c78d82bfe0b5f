"""Trains the network of the body region: ``python tests/support/body_region_training.py SLICES.npz WEIGHTS``.

SLICES.npz: ``hu`` ``[slice, 96, 96]`` as ``node.studies.body_region.slice_image.scaled`` returns them, ``region`` with
the index of each in ``CLASSES``, ``source`` with the name of the series (``MANY_PATIENTS`` for all of OpenKBP), and
``reformatted``: coronal and sagittal slices at the same scale. Classes are drawn equally often.
docs/development/validation.md names the data.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import ndimage
from torch import nn
from torch.nn import functional

from node.studies.body_region.network import CLASSES, channels
from node.studies.body_region.slice_image import AIR_HU, MM, SIZE

Floats = NDArray[np.float32]
MANY_PATIENTS = "open-kbp"
"""A source with dozens of patients, drawn as often as three others."""
OTHER = CLASSES.index("other")
_BATCH, _STEPS, _RATE = 64, 800, 4e-3
_ROWS, _COLUMNS = np.mgrid[:SIZE, :SIZE] * MM
_MIDDLE = SIZE * MM / 2


class Network(nn.Module):
    """The layers of ``node.studies.body_region.network``, with batch normalization that the weights then contain."""

    def __init__(self) -> None:
        super().__init__()
        widths, sides = (3, 16, 32, 48, 64), (5, 3, 3, 3)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, side, 2, side // 2) for a, b, side in zip(widths, widths[1:], sides, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(2 * widths[-1], len(CLASSES))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            values = functional.relu(norm(layer(values)))
        scores: torch.Tensor = self.last(self.drop(torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1)))
        return scores

    def weights(self) -> dict[str, NDArray[np.float16]]:
        """Return what the node loads."""
        tensors: dict[str, Any] = {"w4": self.last.weight, "b4": self.last.bias}
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            tensors[f"w{number}"] = layer.weight * scale[:, None, None, None]
            tensors[f"b{number}"] = (layer.bias - norm.running_mean) * scale + norm.bias
        return {name: tensor.detach().numpy().astype(np.float16) for name, tensor in sorted(tensors.items())}


def limb(rng: np.random.Generator) -> Floats:
    """One limb or two: fat, muscle, a hollow bone and sometimes a second one."""
    image = np.full((SIZE, SIZE), -1000, np.float32)
    number = rng.integers(1, 3)
    centres = [_MIDDLE] if number == 1 else [_MIDDLE - rng.uniform(70, 110), _MIDDLE + rng.uniform(70, 110)]
    radius, fat, cortex = rng.uniform(35, 100 if number == 1 else 85), rng.uniform(3, 20), rng.uniform(3, 8)
    bone, middle = rng.uniform(8, min(34, radius / 2)), _MIDDLE + rng.uniform(-30, 30)
    aside, second, width = rng.uniform(-0.3, 0.3, 2) * radius, rng.random() < 0.4, rng.uniform(0.8, 1.2)
    for centre in centres:
        distance = np.hypot((_COLUMNS - centre) * width, _ROWS - middle)
        image[distance < radius], image[distance < radius - fat] = -100, rng.uniform(40, 70)
        for shift, size in [(0.0, bone), *([(1.8 * bone, 0.4 * bone)] if second else [])]:
            distance = np.hypot(_COLUMNS - centre - aside[0] - shift, _ROWS - middle - aside[1])
            image[distance < size], image[distance < size - cortex] = rng.uniform(900, 1400), rng.uniform(-80, 250)
    return image


def phantom(rng: np.random.Generator) -> Floats:
    """A disc with inserts, or noise alone."""
    if rng.random() < 0.5:
        return rng.normal(rng.uniform(-1000, 500), rng.uniform(1, 400), (SIZE, SIZE)).astype(np.float32)
    image = np.full((SIZE, SIZE), -1000, np.float32)
    image[np.hypot(_COLUMNS - _MIDDLE, _ROWS - _MIDDLE) < rng.uniform(40, 180)] = rng.uniform(-100, 200)
    for _ in range(rng.integers(5)):
        column, row = rng.uniform(100, 284, 2)
        image[np.hypot(_COLUMNS - column, _ROWS - row) < rng.uniform(5, 30)] = rng.uniform(-1000, 1500)
    return image


def varied(image: Floats, rng: np.random.Generator) -> Floats:
    """Mirror, turn, scale, shift and cut an image, change its HU and add noise."""
    image = image[:: -1 if rng.random() < 0.12 else 1, :: -1 if rng.random() < 0.5 else 1]
    angle, scale, middle = np.deg2rad(rng.normal(0, 8)), rng.uniform(0.8, 1.22), np.full(2, (SIZE - 1) / 2)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    offset = middle - matrix @ (middle + rng.uniform(-10, 10, 2))
    image = ndimage.affine_transform(np.ascontiguousarray(image, np.float32), matrix, offset, order=1, cval=AIR_HU)
    cut = rng.random()
    if cut < 0.15:  # a round field of view
        centre = _MIDDLE + rng.uniform(-32, 32, 2)
        image[np.hypot(_ROWS - centre[0], _COLUMNS - centre[1]) > rng.uniform(96, 192)] = AIR_HU
    elif cut < 0.3:
        top, bottom, left, right = rng.integers(0, 18, 4)
        image[:top], image[SIZE - bottom :], image[:, :left], image[:, SIZE - right :] = (AIR_HU,) * 4
    image = image * rng.uniform(0.92, 1.08) + rng.normal(0, 15)
    noise = rng.uniform(0, 60) if rng.random() < 0.5 else 0.0
    return np.asarray(image + rng.normal(0, noise, image.shape), np.float32)


def _weight(source: str, slices: int) -> float:
    """Return how often a source of a class is drawn compared with others."""
    return 6.0 if source == MANY_PATIENTS else 1.0 if slices < 8 else 2.0


def train(data: Any, steps: int = _STEPS, seed: int = 1) -> Network:
    """Return a trained network."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    hu, reformatted = data["hu"], data["reformatted"]
    sources: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (region, source) in enumerate(zip(data["region"], data["source"], strict=True)):
        sources[int(region)][str(source)].append(index)

    def draw(region: int) -> Floats:
        if region == OTHER and (kind := rng.random()) < 0.9:
            return (
                limb(rng) if kind < 0.4 else reformatted[rng.integers(len(reformatted))] if kind < 0.7 else phantom(rng)
            )
        names = list(sources[region])
        weights = np.array([_weight(name, len(sources[region][name])) for name in names])
        indices = sources[region][names[rng.choice(len(names), p=weights / weights.sum())]]
        return np.asarray(hu[indices[rng.integers(len(indices))]], np.float32)

    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for _ in range(steps):
        regions = rng.integers(0, len(CLASSES), _BATCH)
        images = np.stack([varied(draw(int(region)), rng) for region in regions])
        loss = functional.cross_entropy(
            network(torch.from_numpy(channels(images))), torch.from_numpy(regions), label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def main() -> None:
    """Train, write the weights and pin their digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slices", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--steps", type=int, default=_STEPS)
    arguments = parser.parse_args()
    content = save(train(np.load(arguments.slices), arguments.steps).weights())
    arguments.weights.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    arguments.weights.with_suffix(".sha256").write_text(f"{digest}  {arguments.weights.name}\n")


if __name__ == "__main__":
    main()

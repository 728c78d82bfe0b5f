"""Detectability in MODEL_CARD.md: ``python -m pipelines.denoise.training.detectability --data DIR [--bm3d]``.

Lesions that are known, at known places on a known background, present or not, in a uniform phantom and in held-out
anatomy at a quarter of the dose, as the input, classical filters and the network show them; also the noise power of
each chain, and structure it invents.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipelines.denoise.pipeline import DenoisePipeline, Options
from pipelines.denoise.training.data import level_of
from pipelines.denoise.training.false_structure import spots
from pipelines.denoise.training.observer import (
    Ratings,
    Training,
    area_under_curve,
    channels,
    d_prime,
    hotelling,
    matched,
    rate,
)
from pipelines.denoise.training.peers import bm3d, gaussian_filter, non_local_means
from pipelines.denoise.training.phantom import Denoise, NoisePower, radial_power
from pipelines.denoise.training.scenes import CENTRE, CONDITIONS, REGION, Scene, anatomy_scenes, phantom_scenes
from pipelines.denoise.training.sets import samples_of
from pipelines.nnunet_data_set import DataSetError

FloatArray = NDArray[np.float32]
GAUSSIAN_PIXELS, NLM_STRENGTH, BM3D_STRENGTH = 0.7, 1.2, 2.0
"""Best for PSNR at a quarter of the dose on validation (``evaluate.tuned``)."""
FULL = Options(strength=1, reference_noise_hu=0)
SPOT_DIAMETER = 8
SPOT_LIMIT = 0.35
"""Apparent contrast of a false spot in units of the input's noise: the fainter of the lesions of its diameter."""
OBSERVERS: Mapping[str, Training] = {"CHO": hotelling, "NPW": matched}


def network(weights: Path | None, options: Options) -> Denoise:
    """The pipeline as a function of three slices."""
    pipeline = DenoisePipeline(weights=weights, device="cpu", options=options)
    return lambda slices: pipeline.denoise(slices)[0][1]


def bm3d_of_centre(slices: FloatArray) -> FloatArray:
    """BM3D of the middle 256 x 256 pixels, for time; the rest stays as it is."""
    result = slices[1].copy()
    part = CENTRE if result.shape[0] == 512 else np.s_[:, :]
    result[part] = bm3d(result[part], level_of(slices[1]), BM3D_STRENGTH)
    return result


def chains_of(weights: Path | None, variant: Path | None, *, with_bm3d: bool) -> dict[str, Denoise]:
    """Every image chain by its name in the tables."""
    chains: dict[str, Denoise] = {
        "input": lambda s: s[1],
        "Gaussian": lambda s: gaussian_filter(s[1], GAUSSIAN_PIXELS),
        "non-local means": lambda s: non_local_means(s[1], level_of(s[1]), NLM_STRENGTH),
        "network, default": network(weights, Options()),
        "network, full": network(weights, FULL),
    }
    if variant:
        chains["variant, default"] = network(variant, Options())
        chains["variant, full"] = network(variant, FULL)
    if with_bm3d:
        chains["BM3D"] = bm3d_of_centre
    return chains


class Regions:
    """What the observers see of one chain: regions with and without lesions, in units of the input's noise."""

    def __init__(self) -> None:
        self.absent: list[FloatArray] = []
        self.present: list[FloatArray] = []
        self.twins: list[int] = []
        self.groups_absent: list[int] = []
        self.groups_present: list[int] = []
        self.conditions: list[int] = []
        self.outputs: list[FloatArray] = []
        self.false = self.invented = self.pixels = 0

    def add(self, scene: Scene, chain: Denoise) -> None:
        """Send the images of a scene through ``chain`` and cut out its regions."""
        output = chain(scene.absent)
        self.outputs.append(output)
        first = len(self.absent)
        self.absent += self._cut(output, scene)
        self.groups_absent += [scene.group] * len(scene.places)
        for image, conditions in zip(scene.present, scene.conditions, strict=True):
            self.present += self._cut(chain(image), scene)
            self.twins += range(first, first + len(scene.places))
            self.groups_present += [scene.group] * len(scene.places)
            self.conditions += conditions.tolist()
        limit = SPOT_LIMIT * scene.noise_hu
        low, truth = scene.absent[1], scene.truth
        false, invented = spots(output, low, truth, scene.flat, diameter=SPOT_DIAMETER, limit=limit)
        self.false += false
        self.invented += invented
        self.pixels += int(scene.flat.sum())

    @staticmethod
    def _cut(image: FloatArray, scene: Scene) -> list[FloatArray]:
        half = REGION // 2
        # The background is known: without it, anatomy decides which of two places looks like a lesion.
        seen = (image - scene.truth) / np.float32(scene.noise_hu)
        return [seen[y - half : y + half + 1, x - half : x + half + 1] for y, x in scene.places]

    def ratings(self, condition: int, by: Training) -> Ratings:
        """What the observer ``by`` says of every region without and with the lesion of ``condition``."""
        chosen = np.array(self.conditions) == condition
        absent, present = (
            a.reshape(len(a), -1).astype(np.float64) for a in (np.stack(self.absent), np.stack(self.present)[chosen])
        )
        if by is hotelling:
            templates = channels(REGION)
            absent, present = absent @ templates.T, present @ templates.T
        else:
            absent, present = (a - a.mean(axis=1, keepdims=True) for a in (absent, present))
        twins, groups = (np.array(a)[chosen] for a in (self.twins, self.groups_present))
        return rate(absent, present, twins, np.array(self.groups_absent), groups, by=by)


def rounded(values: NDArray[np.float64]) -> list[float]:
    """The 95 % interval of bootstrap draws."""
    return [round(float(v), 3) for v in np.percentile(values, [2.5, 97.5])]


def look(scenes: Iterable[Scene], chains: Mapping[str, Denoise]) -> dict[str, Regions]:
    """Send every scene through every chain."""
    seen = {name: Regions() for name in chains}
    for scene in scenes:
        for name, chain in chains.items():
            seen[name].add(scene, chain)
    return seen


def table_of(seen: Mapping[str, Regions]) -> dict[str, Any]:
    """AUC and d' of every chain, condition and observer, with intervals, also of the difference to the input."""
    result: dict[str, Any] = {}
    for observer, by in OBSERVERS.items():
        figures: dict[str, Any] = {}
        draws: dict[str, list[NDArray[np.float64]]] = {}
        for name, regions in seen.items():
            rows = [regions.ratings(c, by) for c in range(len(CONDITIONS))]
            draws[name] = [r.drawn(area_under_curve) for r in rows]
            mean = np.mean(draws[name], axis=0)
            gained = mean - np.mean(draws["input"], axis=0)
            areas = [r.auc for r in rows]
            figures[name] = {
                "mean AUC": [round(float(np.mean(areas)), 3), *rounded(mean)],
                "mean d'": [
                    round(float(np.mean([r.detectability for r in rows])), 3),
                    *rounded(np.mean([r.drawn(d_prime) for r in rows], axis=0)),
                ],
                "mean AUC less input's": rounded(gained),
                "AUC": [[*c, round(a, 3), *rounded(d)] for c, a, d in zip(CONDITIONS, areas, draws[name], strict=True)],
            }
        result[observer] = figures
    for name, regions in seen.items():
        per = 10_000 / regions.pixels
        result.setdefault("spots per 10,000 pixels", {})[name] = {
            "false": round(regions.false * per, 2),
            "invented": round(regions.invented * per, 2),
        }
    return result


def power_of(seen: Mapping[str, Regions]) -> dict[str, NoisePower]:
    """Noise power spectrum of every chain on the phantom without lesions."""
    return {name: radial_power(np.stack(regions.outputs)) for name, regions in seen.items()}


def draw(powers: Mapping[str, NoisePower], path: Path) -> None:
    """Noise power of every chain as PNG."""
    figure = Figure(figsize=(7, 4))
    axes = figure.add_subplot()
    for name, power in powers.items():
        axes.plot(power.frequencies, power.power, label=f"{name}: {power.noise_hu:.0f} HU, {power.mean_frequency:.3f}")
    axes.set_xlabel("cycles per pixel")
    axes.set_ylabel("noise power, HU² px²")
    axes.set_yscale("log")
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


watched: Callable[..., Iterable[Scene]] = partial(track, console=Console(stderr=True), transient=True)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure how well lesions are seen in denoised images.")
    parser.add_argument("--data", type=Path, required=True, help="data folder with ct_slices and studies")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--weights", type=Path, help="safetensors file; default: the packaged weights")
    parser.add_argument("--variant", type=Path, help="weights to compare with")
    parser.add_argument("--realisations", type=int, default=24, help="of the phantom; each slice has a twelfth of them")
    parser.add_argument("--bm3d", action="store_true", help="also BM3D (package bm3d; many minutes)")
    parser.add_argument("--plots", type=Path, help="folder for the curves of noise power as PNG")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chains = chains_of(arguments.weights, arguments.variant, with_bm3d=arguments.bm3d)
    count = arguments.realisations
    try:
        samples = samples_of(arguments.data, arguments.split)  # before minutes are spent on the phantom
    except (DataSetError, FileNotFoundError) as error:
        parser.error(str(error))
    phantom = look(watched(phantom_scenes(count), "phantom", total=count), chains)
    powers = power_of(phantom)
    if arguments.plots:
        draw(powers, arguments.plots / "noise_power.png")
    anatomy = look(watched(anatomy_scenes(samples, max(1, count // 12)), "anatomy", total=None), chains)
    report = {
        "noise power": {
            name: {"noise_hu": round(p.noise_hu, 2), "mean_per_px": round(p.mean_frequency, 4)}
            for name, p in powers.items()
        },
        "phantom": table_of(phantom),
        f"anatomy, {arguments.split}": table_of(anatomy),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

"""Figures of MODEL_CARD.md: ``python -m pipelines.denoise.training.evaluate --data DIR [--json] [--plots DIR]``.

Every slice gets its simulated low dose once, from a fixed seed. Classical filters are tuned on the validation split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from pipelines.denoise.pipeline import DenoisePipeline, Options
from pipelines.denoise.training.data import STUDIES, Sample, flat_pixels, level_of, low_dose, read_study
from pipelines.denoise.training.peers import (
    bm3d,
    body,
    gaussian_filter,
    noise_free_gain,
    non_local_means,
    psnr,
    rmse,
    ssim,
)
from pipelines.denoise.training.phantom import Denoise, draw, responses
from pipelines.denoise.training.sets import samples_of
from pipelines.nnunet_data_set import DataSetError

FloatArray = NDArray[np.float32]
SEED = 4
DOSES = (0.5, 0.25, 0.125)
GAUSSIAN_GRID = (0.5, 0.7, 0.9, 1.1, 1.3)
NLM_GRID = (0.6, 0.9, 1.2, 1.6, 2.0)
BM3D_GRID = (1.0, 1.5, 2.0)
FULL = Options(strength=1, reference_noise_hu=0)
"""All noise that the network finds is removed."""
EDGE_CONTRASTS = (100.0, 900.0)
PHANTOM_NOISE_HU = 40.0
REGIONS = {"soft tissue": (-200.0, 300.0), "lung": (-2000.0, -400.0), "bone": (300.0, 4000.0)}
"""CT numbers of the full-dose slice, inside the body."""
BOOTSTRAP = 2000


watched = partial(track, console=Console(stderr=True), transient=True)
"""A progress bar that leaves standard output to the figures."""


@dataclass(frozen=True, eq=False)
class Case:
    """One slice at full and at low dose."""

    sample: Sample
    dose: float
    low: FloatArray
    noise_hu: float

    @property
    def full(self) -> FloatArray:
        return self.sample.slices[1]


def cases(data: Path, split: str, doses: tuple[float, ...], *, every: int = 1) -> list[Case]:
    """Simulate every n-th slice of ``split`` at each of ``doses``."""
    rng = np.random.default_rng(SEED)
    evaluated = []
    for sample in watched(
        samples_of(data, split)[::every],
        f"simulating {split}",
    ):
        for dose, low in zip(doses, low_dose(sample, doses, rng), strict=True):
            evaluated.append(Case(sample, dose, low, level_of(low[1])))
    return evaluated


def network(pipeline: DenoisePipeline) -> Denoise:
    """The pipeline as a function of three slices."""
    return lambda slices: pipeline.denoise(slices)[0][1]


def interval(values: list[float]) -> dict[str, float]:
    """Mean with its 95 % bootstrap interval over slices."""
    array = np.asarray(values)
    draws = np.random.default_rng(SEED).integers(0, len(array), (BOOTSTRAP, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return {"mean": round(float(array.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def tuned(name: str, grid: tuple[float, ...], apply: Callable[[Case, float], FloatArray], val: list[Case]) -> float:
    """The setting of ``grid`` with the best mean PSNR over ``val``."""
    scores = {}
    for value in watched(grid, f"tuning {name}"):
        scores[value] = np.mean([psnr(apply(c, value), c.full, body(c.full)) for c in val])
    return max(scores, key=lambda v: scores[v])


def by_dose(pipeline: DenoisePipeline, weights: Path | None, data: Path, split: str) -> dict[str, Any]:
    """PSNR, gain of PSNR, SSIM and RMSE in the body, for each dose and method."""
    val = cases(data, "val", (0.25,), every=3)
    sigma = tuned("Gaussian", GAUSSIAN_GRID, lambda c, v: gaussian_filter(c.low[1], v), val)
    h = tuned("non-local means", NLM_GRID, lambda c, v: non_local_means(c.low[1], c.noise_hu, v), val)
    result: dict[str, Any] = {"tuned on val": {"Gaussian, pixels": sigma, "non-local means, h / noise": h}}
    held_out = cases(data, split, DOSES)
    full = DenoisePipeline(weights=weights, device="cpu", options=FULL)
    for dose in DOSES:
        methods: dict[str, Callable[[Case], FloatArray]] = {
            "input": lambda c: c.low[1],
            "Gaussian": lambda c: gaussian_filter(c.low[1], sigma),
            "non-local means": lambda c: non_local_means(c.low[1], c.noise_hu, h),
            "network, default": lambda c: network(pipeline)(c.low),
            "network, full": lambda c: network(full)(c.low),
        }
        part = [c for c in held_out if c.dose == dose]
        table = {}
        for name, method in methods.items():
            outputs = [(c, method(c)) for c in watched(part, f"dose {dose}: {name}")]
            masks = [body(c.full) for c, _ in outputs]
            table[name] = {
                "psnr_db": interval([psnr(o, c.full, m) for (c, o), m in zip(outputs, masks, strict=True)]),
                "gain_db": interval(
                    [psnr(o, c.full, m) - psnr(c.low[1], c.full, m) for (c, o), m in zip(outputs, masks, strict=True)]
                ),
                "ssim": interval([ssim(o, c.full, m) for (c, o), m in zip(outputs, masks, strict=True)]),
                "rmse_hu": interval([rmse(o, c.full, m) for (c, o), m in zip(outputs, masks, strict=True)]),
                "noise_free_gain_db": interval(
                    [noise_free_gain(o, c.low[1], c.full, dose, m) for (c, o), m in zip(outputs, masks, strict=True)]
                ),
                "gain_db by region": {
                    region: interval(
                        [_gain_between(c, o, m, *limits) for (c, o), m in zip(outputs, masks, strict=True)]
                    )
                    for region, limits in REGIONS.items()
                },
            }
        result[f"dose {dose}"] = table
    return result


def _gain_between(case: Case, output: FloatArray, mask: NDArray[np.bool_], low: float, high: float) -> float:
    part = mask & (case.full > low) & (case.full <= high)
    return psnr(output, case.full, part) - psnr(case.low[1], case.full, part)


def against_bm3d(weights: Path | None, data: Path, split: str) -> dict[str, Any]:
    """Gain of PSNR at a quarter of the dose on the central 256 x 256 pixels, BM3D (slow) and the network."""
    centre = np.s_[128:384, 128:384]
    full = DenoisePipeline(weights=weights, device="cpu", options=FULL)

    def gain(case: Case, output: FloatArray) -> float:
        truth = case.full[centre]
        mask = np.ones(truth.shape, bool)
        return psnr(output, truth, mask) - psnr(case.low[1][centre], truth, mask)

    def apply(case: Case, value: float) -> FloatArray:
        return bm3d(case.low[1][centre], case.noise_hu, value)

    val = cases(data, "val", (0.25,), every=3)
    scores = {v: np.mean([gain(c, apply(c, v)) for c in val]) for v in watched(BM3D_GRID, "tuning BM3D")}
    best = max(scores, key=lambda v: scores[v])
    held_out = cases(data, split, (0.25,), every=3)
    return {
        "sigma / noise, tuned on val": best,
        "BM3D": interval([gain(c, apply(c, best)) for c in watched(held_out, "BM3D")]),
        "network, full": interval([gain(c, network(full)(c.low)[centre]) for c in held_out]),
    }


def full_dose(pipeline: DenoisePipeline, data: Path, split: str) -> dict[str, Any]:
    """What the default does to full-dose slices: change inside the body, and shift of the mean in flat tissue."""
    rows: list[dict[str, Any]] = []
    for sample in watched(samples_of(data, split), "full dose"):
        hu = sample.slices[1]
        change = network(pipeline)(sample.slices) - hu
        flat = flat_pixels(hu)
        rows.append(
            {
                "slice": sample.name,
                "model": sample.model,
                "noise_hu": round(level_of(hu), 1),
                "change_sd_hu": round(float(change[body(hu)].std()), 2),
                "flat_mean_shift_hu": round(float(change[flat].mean()), 3),
            }
        )
    quiet = [r for r in rows if r["noise_hu"] <= pipeline.options.reference_noise_hu]
    return {
        "slices": rows,
        "change_sd_hu of slices below the reference noise": interval([r["change_sd_hu"] for r in quiet]),
        "largest flat_mean_shift_hu": max(abs(r["flat_mean_shift_hu"]) for r in rows),
    }


def on_phantom(chains: dict[str, Denoise], plots: Path | None) -> dict[str, Any]:
    """Edge, texture and noise of a phantom before and after; curves as PNG into the folder ``plots``."""
    result: dict[str, Any] = {}
    for contrast in EDGE_CONTRASTS:
        seen = responses(contrast, PHANTOM_NOISE_HU, {"before": lambda s: s[1], **chains})
        if plots:
            draw(seen, plots / f"phantom_{contrast:.0f}.png", f"Insert of {contrast:.0f} HU in noise of 40 HU")
        for name, response in seen.items():
            result[f"{contrast:g} HU, {name}"] = {
                "rise_px": round(response.rise_px, 3),
                "ttf_half_per_px": round(response.ttf_half, 4),
                "noise_hu": round(response.noise.noise_hu, 2),
                "nps_mean_per_px": round(response.noise.mean_frequency, 4),
            }
    return result


def steepness(hu: FloatArray, edges: NDArray[np.bool_]) -> float:
    """Mean gradient at ``edges`` in HU per pixel, of the slice averaged over 3 x 3 pixels against noise."""
    smooth = ndimage.uniform_filter(hu, 3)
    return float(np.hypot(*np.gradient(smooth))[edges].mean())


def two_kernels(chains: dict[str, Denoise], data: Path) -> dict[str, Any]:
    """One scan reconstructed smooth (B) and sharp (L), every 8th slice: noise, how far L is from B, steepness of edges.

    Edges are the steepest 2 % of the pixels of B inside the body.
    """
    smooth, sharp = (read_study(data / f)[1] for f in STUDIES["test"])
    result: dict[str, Any] = {}
    for label, denoise in chains.items():
        rows = []
        for k in watched(range(4, len(sharp) - 4, 8), f"kernels, {label}"):
            b, after_b = smooth[k], denoise(smooth[k - 1 : k + 2])
            after_l = denoise(sharp[k - 1 : k + 2])
            flat = flat_pixels(b)
            gradient = np.hypot(*np.gradient(b)) * body(b)
            edges = gradient > np.percentile(gradient[body(b)], 98)
            levels = [level_of(a) for a in (b, after_b, sharp[k], after_l)]
            steep = [steepness(a, edges) for a in (b, sharp[k], after_l)]
            rows.append((*levels, rmse(sharp[k], b, flat), rmse(after_l, b, flat), *steep))
        names = (
            *("noise B", "noise B after", "noise L", "noise L after", "rmse L to B, flat", "rmse L after to B, flat"),
            *("edges B, HU/px", "edges L, HU/px", "edges L after, HU/px"),
        )
        result[label] = {n: round(float(v), 2) for n, v in zip(names, np.median(rows, axis=0), strict=True)}
    return result


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(description="Re-create the figures of MODEL_CARD.md.")
    parser.add_argument("--data", type=Path, required=True, help="data folder with ct_slices and studies")
    parser.add_argument("--weights", type=Path, help="safetensors file; default: the packaged weights")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--json", action="store_true", help="compact JSON on one line")
    parser.add_argument("--plots", type=Path, help="folder for curves of noise power and sharpness as PNG")
    parser.add_argument("--bm3d", action="store_true", help="also compare with BM3D (package bm3d; many minutes)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = DenoisePipeline(weights=arguments.weights, device="cpu", options=Options())
    full = DenoisePipeline(weights=arguments.weights, device="cpu", options=FULL)
    chains = {"default": network(pipeline), "full": network(full)}
    try:
        report = {
            "by dose": by_dose(pipeline, arguments.weights, arguments.data, arguments.split),
            "full dose": full_dose(pipeline, arguments.data, arguments.split),
            "phantom": on_phantom(chains, arguments.plots),
            "kernels": two_kernels(chains, arguments.data),
        }
        if arguments.bm3d:
            report["BM3D"] = against_bm3d(arguments.weights, arguments.data, arguments.split)
    except (DataSetError, FileNotFoundError) as error:
        parser.error(str(error))
    print(json.dumps(report, indent=None if arguments.json else 1))


if __name__ == "__main__":
    main()

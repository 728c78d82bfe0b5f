"""Figures that need no whole scan: the classifier and the outlines, on crops of patients held out by the split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from scipy import ndimage, stats

from pipelines.nodule.classify import judge
from pipelines.nodule.crops import CROP, gap, stretched
from pipelines.nodule.network import ClassifierNet, OutlineNet
from pipelines.nodule.outline import logits_of
from pipelines.nodule.patches import stacks
from pipelines.nodule.verdicts import KEPT, Example, from_slices, from_stack

Floats = npt.NDArray[np.float64]
SEED = 2026
RESAMPLES = 1000


def bootstrap(values: Sequence[float], statistic: Callable[[Floats], float], seed: int = SEED) -> tuple[float, float]:
    """95 % interval of ``statistic`` by the percentile bootstrap."""
    rng = np.random.default_rng(seed)
    array = np.asarray(values, float)
    drawn = [statistic(array[rng.integers(len(array), size=len(array))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def auc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: how often a positive one scores higher, ties count half."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def auc_with_interval(positive: Floats, negative: Floats) -> dict[str, Any]:
    """The area, and its 95 % interval by the bootstrap of both groups."""
    rng = np.random.default_rng(SEED)
    drawn = [
        auc(*(group[rng.integers(len(group), size=len(group))] for group in (positive, negative)))
        for _ in range(RESAMPLES)
    ]
    return {
        "auc": round(auc(positive, negative), 3),
        "interval": [round(float(v), 3) for v in np.percentile(drawn, [2.5, 97.5])],
        "n": [len(positive), len(negative)],
    }


def verdict_figures(network: ClassifierNet, data: Path, split: str, cut: float = 0.5) -> dict[str, Any]:
    """Firm nodules (three readers, their largest slice) against what lies beside them and spots of other slices."""
    rng = np.random.default_rng(SEED)
    nodules: list[Example] = []
    other: list[Example] = list(from_slices(rng, data, split))
    scored: list[Example] = []
    for stack in track(stacks(data, split), "classifier", console=Console(stderr=True)):
        found = list(from_stack(rng, stack))
        other += [e for e in found if e.kind == "beside"]
        first = [e for e in found if e.kind == "nodule"][:1]
        nodules += first if stack.raters >= 3 else []
        scored += first if stack.malignancy else []
    chance, beside = (_seen(network, group)[:, 0] for group in (nodules, other))
    slices = np.array([e.kind == "slice" for e in other])
    looks, score = _seen(network, scored)[:, 1], np.array([e.malignancy for e in scored])
    return {
        "split": split,
        "nodule": auc_with_interval(chance, beside),
        "nodule_against_the_same_crops": auc_with_interval(chance, beside[~slices]),
        "nodule_against_other_slices": auc_with_interval(chance, beside[slices]),
        "cut": cut,
        "sensitivity": _share(chance >= cut),
        "specificity": _share(beside < cut),
        "malignancy": auc_with_interval(looks[score >= 4], looks[score <= 2]),
    }


def _share(hits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    values = hits.astype(float).tolist()
    interval = bootstrap(values, lambda v: float(v.mean()))
    return {"share": round(float(hits.mean()), 3), "interval": [round(v, 3) for v in interval], "n": len(values)}


def _seen(network: ClassifierNet, examples: Sequence[Example]) -> Floats:
    edge = (KEPT - ClassifierNet.VIEW) // 2
    planes = torch.from_numpy(np.stack([e.planes for e in examples])[:, :, edge : KEPT - edge, edge : KEPT - edge])
    return judge(network, planes.float() / 255, "cpu").sigmoid().double().numpy()


@torch.inference_mode()
def outline_figures(network: OutlineNet, data: Path, split: str) -> dict[str, Any]:
    """Dice per nodule (all its slices together) against the consensus of two readers, three readers or more."""
    scores, sizes = [], []
    for stack in track(stacks(data, split), "outlines", console=Console(stderr=True)):
        truth = stack.readers >= 2
        if stack.raters < 3 or not truth.any():
            continue
        count, step = len(stack.grey), gap(stack.slice_mm)
        grey = torch.from_numpy(stretched(stack.grey.astype(np.float32)))
        index = torch.arange(count)
        triples = torch.stack([grey[(index + d).clamp(0, count - 1)] for d in (-step, 0, step)], 1)
        edge = CROP // 4
        seen = np.zeros(truth.shape, bool)
        inner = np.s_[:, edge : CROP - edge, edge : CROP - edge]
        seen[inner] = (logits_of(network, triples[:, :, edge : CROP - edge, edge : CROP - edge])[:, 0] > 0).numpy()
        seen &= _connected(seen, truth)
        scores.append(2 * float((seen & truth).sum()) / float(seen.sum() + truth.sum()))
        sizes.append(stack.diameter_mm)
    by_size = {}
    for low, high in ((3, 8), (8, 15), (15, 60)):
        part = [s for s, d in zip(scores, sizes, strict=True) if low <= d < high]
        by_size[f"{low}-{high} mm"] = {"n": len(part), "mean": round(float(np.mean(part)), 3)}
    return {
        "split": split,
        "nodules": len(scores),
        "dice_mean": round(float(np.mean(scores)), 3),
        "interval": [round(v, 3) for v in bootstrap(scores, lambda v: float(v.mean()))],
        "dice_median": round(float(np.median(scores)), 3),
        "missed": sum(s == 0 for s in scores),
        "by_size": by_size,
    }


def _connected(seen: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The connected bodies nearest to the nodule, as the pipeline takes the one at its candidate's centre."""
    labels, count = ndimage.label(seen)
    if not count:
        return seen
    middle = np.argwhere(truth).mean(0)
    index = np.argwhere(labels > 0)
    nearest = index[np.linalg.norm(index - middle, axis=1).argmin()]
    return np.asarray(labels == labels[tuple(nearest)])


def draw_froc(hits: Sequence[float], false: Sequence[float], scans: int, path: Path) -> None:
    """Sensitivity over false alarms per scan as PNG; ``hits``: best probability at each nodule, 0 where none."""
    from matplotlib.figure import Figure

    cuts = np.unique([*hits, *false])[::-1]
    figure = Figure(figsize=(4.5, 3.2), layout="tight")
    axes = figure.subplots()
    axes.step([np.sum(np.array(false) >= c) / scans for c in cuts], [np.mean(np.array(hits) >= c) for c in cuts])
    axes.set(xlabel="false alarms per scan", ylabel="sensitivity", xlim=(0, 10), ylim=(0, 1))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)

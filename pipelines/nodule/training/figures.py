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
from scipy import stats

from pipelines.nodule.classify import judge
from pipelines.nodule.crops import CROP, PIXEL_MM, gap, nearness, stretched
from pipelines.nodule.network import ClassifierNet, OutlineNet
from pipelines.nodule.outline import body_at, field_of, logits_of
from pipelines.nodule.training.classifier_examples import KEPT, Example, from_slices, from_stack
from pipelines.nodule.training.outlines import distance_mm, pointed_at
from pipelines.nodule.training.patches import Stack, stacks
from pipelines.worst_cases import WORST, draw_case

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


def classifier_figures(network: ClassifierNet, data: Path, split: str, cut: float = 0.5) -> dict[str, Any]:
    """Firm nodules (three readers, their largest slice) against what lies beside them and spots of other slices."""
    rng = np.random.default_rng(SEED)
    nodules: list[Example] = []
    other: list[Example] = list(from_slices(rng, data, split))
    scored: list[Example] = []
    for stack in track(stacks(data, split), "classifier", console=Console(stderr=True)):
        examples = list(from_stack(rng, stack))
        other += [e for e in examples if e.kind == "beside"]
        first = [e for e in examples if e.kind == "nodule"][:1]
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
def outlined(network: OutlineNet, stack: Stack, centre: Floats) -> npt.NDArray[np.bool_]:
    """The mask that the pipeline would draw in ``stack`` when its candidate stage points at ``centre``."""
    count, step = len(stack.grey), gap(stack.slice_mm)
    grey = torch.from_numpy(stretched(stack.grey.astype(np.float32)))
    index = torch.arange(count)
    away = np.stack([distance_mm(stack, k, centre) for k in range(count)])
    planes = [grey[(index + d).clamp(0, count - 1)] for d in (-step, 0, step)]
    edge = (CROP - field_of(stack.diameter_mm)) // 2
    inner = np.s_[:, edge : CROP - edge, edge : CROP - edge]
    seen = np.zeros(stack.grey.shape, bool)
    views = torch.stack([*planes, torch.from_numpy(nearness(away))], 1)[:, :, *inner[1:]]
    seen[inner] = (logits_of(network, views)[:, 0] > 0).numpy()
    spacing = (stack.slice_mm or 1.0, *[stack.pixel_mm or PIXEL_MM] * 2)
    body = body_at(seen, centre, spacing, stack.diameter_mm)
    return np.zeros_like(seen) if body is None else body


def outline_figures(network: OutlineNet, data: Path, split: str, gallery: Path | None = None) -> dict[str, Any]:
    """Dice per nodule (all its slices together) against the consensus of two readers, three readers or more.

    The worst are drawn into ``gallery``: pictures of patients, to be kept where the images may be kept.
    """
    rng = np.random.default_rng(SEED)
    firm = [s for s in stacks(data, split) if s.raters >= 3 and (s.readers >= 2).any()]
    scores, masks = [], []
    for stack in track(firm, "outlines", console=Console(stderr=True)):
        truth = stack.readers >= 2
        seen = outlined(network, stack, pointed_at(rng, stack))
        scores.append(2 * float((seen & truth).sum()) / float(seen.sum() + truth.sum()))
        masks.append(seen)
    if gallery is not None:
        gallery.mkdir(parents=True, exist_ok=True)
        for rank, k in enumerate(np.argsort(scores, kind="stable")[:WORST], start=1):
            path = gallery / f"{rank:02}_nodule_{k:03}.png"
            draw_case(firm[k].grey.astype(float), firm[k].readers >= 2, masks[k], scores[k], path)
    by_size = {}
    for low, high in ((3, 8), (8, 15), (15, 60)):
        part = [score for score, s in zip(scores, firm, strict=True) if low <= s.diameter_mm < high]
        by_size[f"{low}-{high} mm"] = {"n": len(part), "mean": round(float(np.mean(part)), 3)}
    return {
        "split": split,
        "nodules": len(scores),
        "dice_mean": round(float(np.mean(scores)), 3),
        "interval": [round(v, 3) for v in bootstrap(scores, lambda v: float(v.mean()))],
        "dice_median": round(float(np.median(scores)), 3),
        "missed": sum(s == 0 for s in scores),
        "by_size": by_size,
        "readers": readers_agreement(firm),
    }


def readers_agreement(firm: Sequence[Stack]) -> dict[str, float]:
    """Mean Dice of the readers themselves, from how many of them marked each voxel.

    Per nodule all its readers are pooled (sums of overlaps over sums of sizes): whom a voxel was marked by is unknown.
    """
    pairs, others = [], []
    for stack in firm:
        votes, n = stack.readers.astype(int), stack.raters
        pairs.append((votes * (votes - 1)).sum() / ((n - 1) * votes.sum()))
        # A reader who marked a voxel has one less among the others.
        agreed_by_others = votes * (votes >= 3) + (n - votes) * (votes >= 2)
        others.append(2 * votes[votes >= 3].sum() / (votes.sum() + agreed_by_others.sum()))
    return {
        "one_against_another": round(float(np.mean(pairs)), 3),
        "one_against_two_of_the_others": round(float(np.mean(others)), 3),
    }

"""Hard negatives for the classifier: bright spots of the crops that it takes for nodules, and a scan's candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from pipelines.nodule.candidates import crop_lungs
from pipelines.nodule.crops import PIXEL_MM, gap, stretched
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.search import Networks, candidates
from pipelines.nodule.training.classifier_examples import KEPT, SHARES, Example, example, from_scan, spots
from pipelines.nodule.training.insertion import Array
from pipelines.nodule.training.patches import Stack
from pipelines.nodule.training.scans import Background

HARD = 0.1
"""Spots that the network says this much of, or more, are hard."""
EASY_SHARE = 0.03
"""Of the others so many are kept."""
SLICES = 5
"""Of each crop, evenly from its first slice to its last."""
EDGE = 20
"""Pixels at the edge of a crop in which no spot is taken."""
SAME = 0.8
"""Correlation from which a spot is taken for another nodule of the same patient, which the crop does not mark."""
REACH, PART = 4, 32
"""Pixels that two places may be apart, and edge of what is compared."""
HARD_SHARES = SHARES | {
    "beside": 0.12,
    "hard": 0.14,
    "easy": 0.06,
    "candidate": 0.05,
    "bulge": 0.03,
    "hilar": 0.03,
    "slice": 0.06,
    "wide": 0.05,
}
"""How often each kind is drawn, in parts of their sum."""


def from_crops(rng: np.random.Generator, network: ClassifierNet, stacks: Sequence[Stack]) -> Iterator[Example]:
    """Spots beside the nodules of ``found`` that ``network`` takes for nodules (``hard``), and some others."""
    nodules: dict[str, list[tuple[int, Array]]] = defaultdict(list)
    for number, stack in enumerate(stacks):
        nodules[stack.patient] += [(number, view) for view in _nodule_views(stack)]
    for number, stack in enumerate(stacks):
        seen = list(_spots_of(stack))
        for spot, chance in zip(seen, scores(network, seen), strict=True):
            if chance < HARD:
                if rng.random() < EASY_SHARE:
                    yield replace(spot, kind="easy")
                continue
            view = _middle(spot)
            if all(alike(view, other) <= SAME for owner, other in nodules[stack.patient] if owner != number):
                yield replace(spot, kind="hard")


def _spots_of(stack: Stack) -> Iterator[Example]:
    free = ~ndimage.binary_dilation(stack.readers.max(0) > 0, iterations=6)
    free[:EDGE], free[-EDGE:], free[:, :EDGE], free[:, -EDGE:] = False, False, False, False
    last, step = len(stack.grey) - 1, gap(stack.slice_mm)
    for middle in sorted({int(k) for k in np.linspace(0, last, SLICES)}):
        planes = stretched(stack.grey[np.clip([middle - step, middle, middle + step], 0, last)].astype(np.float32))
        for place in spots(planes[1], free):
            yield example(planes, stack.pixel_mm or PIXEL_MM, place, "beside")


def _nodule_views(stack: Stack) -> Iterator[Array]:
    for k in np.flatnonzero(stack.readers.any((1, 2))):
        planes = stretched(stack.grey[[k, k, k]].astype(np.float32))
        centre = np.argwhere(stack.readers[k] > 0).mean(0)
        yield _middle(example(planes, stack.pixel_mm or PIXEL_MM, centre, "beside"))


def _middle(seen: Example) -> Array:
    half = PART // 2 + REACH
    part = slice(KEPT // 2 - half, KEPT // 2 + half)
    return np.asarray(ndimage.gaussian_filter(seen.planes[1].astype(np.float32), 1.0)[part, part])


def alike(one: Array, other: Array) -> float:
    """Largest correlation of the middle of ``other`` with ``one``, shifted by up to ``REACH`` pixels."""
    inner = other[REACH:-REACH, REACH:-REACH]
    inner = inner - inner.mean()
    best = -1.0
    for down in range(0, 2 * REACH + 1, 2):
        for right in range(0, 2 * REACH + 1, 2):
            part = one[down : down + PART, right : right + PART]
            part = part - part.mean()
            both = float(np.sqrt((part**2).sum() * (inner**2).sum())) + 1e-6
            best = max(best, float((part * inner).sum()) / both)
    return best


@torch.inference_mode()
def scores(network: ClassifierNet, seen: Sequence[Example]) -> npt.NDArray[np.float64]:
    """What ``network`` says of each example as it is, without mirror images: 0 to 1."""
    if not seen:
        return np.zeros(0)
    edge = (KEPT - ClassifierNet.VIEW) // 2
    inner = slice(edge, KEPT - edge)
    views = torch.from_numpy(np.stack([e.planes for e in seen])[:, :, inner, inner]).float() / 255
    scores = [network(part.contiguous(memory_format=torch.channels_last))[:, 0] for part in views.split(64)]
    return torch.cat(scores).sigmoid().double().numpy()


def from_candidates(rng: np.random.Generator, networks: Networks, ground: Background) -> Iterable[Example]:
    """What both sources of candidates propose in a scan as it is: none of it is a nodule but what is ignored."""
    spacing = (ground.step_mm, 1.0, 1.0)
    lungs = find_lungs(ground.hu, spacing)
    if lungs is None:
        raise ValueError("background scan without lungs; choose another")
    crop = crop_lungs(ground.hu, spacing, lungs)
    at = np.array([c.centre for c in candidates(networks.heat(crop), crop, spacing)]).reshape(-1, 3)
    at = np.clip(np.round(at).astype(int), 0, np.array(ground.hu.shape) - 1)
    free = at[~ground.ignored[tuple(at.T)]]
    return [replace(e, kind="candidate") for e in from_scan(rng, ground, [], free, 0)]

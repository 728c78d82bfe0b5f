"""Examples for the classifier: nodules, and what is mistaken for them, from crops, whole scans and single slices.

Both kinds come from each source, scaled in the same way, so that no source betrays the answer: from the crops the
nodules and what lies beside them, from the scans inserted nodules and the blobs of vessels and walls.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from PIL import Image
from scipy import ndimage
from torch import Tensor

from pipelines.nodule.crops import PIXEL_MM, gap, stretched
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.training.augment import relit
from pipelines.nodule.training.data import turned
from pipelines.nodule.training.insertion import Array, Shape, insert, spheroid, tube
from pipelines.nodule.training.patches import Stack, hollowed
from pipelines.nodule.training.scans import Background

AGREEMENT = {1: 0.5, 2: 0.8, 3: 1.0, 4: 1.0}
"""Readers that marked it, and how far it is taken for a nodule."""
SLICE_MM = 1.4
"""Pixels of ``lung_ct``, which has lost its spacing: a chest of 360 mm in 256 pixels."""
CUT = 96
"""Pixels of 1 mm cut from a background: as much as a stretched crop shows."""
KEPT = 96
"""Pixels of ``PIXEL_MM`` kept of an example, so that it can be turned and shifted."""
SHARES = {"nodule": 0.35, "beside": 0.25, "inserted": 0.1, "blob": 0.15, "tube": 0.05, "slice": 0.1}
"""How often each kind is drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """Three planes round the place in question: ``[3, KEPT, KEPT]``, 0 to 255."""

    planes: npt.NDArray[np.uint8]
    kind: str
    """Of ``SHARES``, or of ``hard_negatives.HARD_SHARES``."""
    nodule: float
    """0 to 1."""
    malignancy: float
    """1 to 5; 0 unknown."""


def example(planes: Array, pixel_mm: float, centre: Sequence[float], kind: str, stack: Stack | None = None) -> Example:
    """``planes`` (``[3, y, x]``, 0 to 1) resampled to ``PIXEL_MM`` round ``centre`` (row, column)."""
    axis = (np.arange(KEPT) - (KEPT - 1) / 2) * PIXEL_MM / pixel_mm
    rows, columns = ((c + axis + 0.5) / n * 2 - 1 for c, n in zip(centre, planes.shape[1:], strict=True))
    grid = torch.from_numpy(np.stack(np.meshgrid(columns, rows), -1).astype(np.float32))[None]
    seen = F.grid_sample(torch.from_numpy(planes)[None], grid, padding_mode="border", align_corners=False)[0]
    nodule = AGREEMENT[min(4, stack.raters)] if stack else float(kind == "inserted")
    grey = (seen * 255).round().to(torch.uint8).numpy()
    return Example(planes=grey, kind=kind, nodule=nodule, malignancy=stack.malignancy if stack else 0.0)


def spots(plane: npt.NDArray[np.floating], allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Row and column of bright spots in one plane: where vessels are cut, and corners of the wall."""
    edge = ndimage.gaussian_filter(plane, 1.5) - ndimage.gaussian_filter(plane, 4.0)
    summit = (edge == ndimage.maximum_filter(edge, 5)) & (edge > 0.06) & allowed
    return np.argwhere(summit)


def from_stack(rng: np.random.Generator, stack: Stack) -> Iterator[Example]:
    """A nodule of ``lidc_patches`` in up to three of its slices, and places beside it."""
    marked = stack.readers >= min(2, stack.raters)
    area = marked.sum((1, 2))
    pixel_mm, step = stack.pixel_mm or PIXEL_MM, gap(stack.slice_mm)
    free = ~ndimage.binary_dilation(stack.readers.max(0) > 0, iterations=6)
    free[:24], free[-24:], free[:, :24], free[:, -24:] = False, False, False, False
    for middle in np.argsort(-area)[:3]:
        if not area[middle]:
            continue
        index = np.clip([middle - step, middle, middle + step], 0, len(area) - 1)
        grey = stack.grey[index].astype(np.float32)
        centre = np.argwhere(marked[middle]).mean(0)
        yield example(stretched(grey), pixel_mm, centre, "nodule", stack)
        if stack.diameter_mm > 7 and rng.random() < 0.1:
            yield example(stretched(hollowed(rng, grey, marked[index], pixel_mm)), pixel_mm, centre, "nodule", stack)
        bright = rng.permutation(spots(stretched(grey[1]), free))[:2]
        anywhere = np.argwhere(free)
        other = anywhere[rng.integers(len(anywhere), size=int(rng.random() < 0.25))] if len(anywhere) else bright[:0]
        for place in (*bright, *other):
            yield example(stretched(grey), pixel_mm, place, "beside")


def from_scan(
    rng: np.random.Generator, ground: Background, bank: Sequence[Shape], blobs: npt.NDArray[np.int64], count: int
) -> Iterator[Example]:
    """``count`` nodules and half as many vessels inserted into a scan, and its ``blobs`` (slice, row, column)."""
    kinds = ["inserted"] * count + ["tube"] * (count // 2) + ["blob"] * len(blobs)
    step = gap(ground.step_mm)
    for number, kind in enumerate(kinds, len(blobs) - len(kinds)):
        places = (ground.places, ground.near_wall, ground.near_vessel)[int(rng.choice(3, p=[0.4, 0.3, 0.3]))]
        at = blobs[number] if kind == "blob" else places[int(rng.integers(len(places)))]
        box = (np.arange(c - h, c + h + 1) for c, h in zip(at, (step, CUT // 2, CUT // 2), strict=True))
        hu = ground.hu[np.ix_(*(np.clip(b, 0, n - 1) for b, n in zip(box, ground.hu.shape, strict=True)))]
        if kind != "blob":
            real = len(bank) > 0 and rng.random() < 0.7
            shape = turned(rng, bank[int(rng.integers(len(bank)))]) if real else spheroid(rng, _diameter(rng))
            if kind == "tube":
                shape = tube(rng)
            z = (step + float(rng.uniform(-0.5, 0.5))) * ground.step_mm
            insert(hu, shape, (z, CUT // 2, CUT // 2), ground.step_mm, max(1.0, ground.step_mm))
        yield example(stretched(hu[::step]), 1.0, (CUT / 2, CUT / 2), kind)


def _diameter(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(4.0), np.log(20.0))))


def from_slices(rng: np.random.Generator, data: Path, split: str, *, wide: bool = False) -> Iterator[Example]:
    """Bright spots in the lungs of single slices (``lung_ct/`` of the data folder), without neighbours.

    ``wide``: all of them, of twice as wide a rim of wall, diaphragm and mediastinum too.
    """
    folder, half = data / "lung_ct", round(CUT / SLICE_MM / 2)
    masks = np.array(Image.open(folder / "masks.png"))
    with (folder / "index.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    for row in rows:
        hu = ((np.array(Image.open(folder / row["image"])).astype(np.float32) - 4096) / 0.82).clip(-1024, 1200)
        y, x = int(row["mask_y"]), int(row["mask_x"])
        lung = ndimage.binary_dilation(masks[y : y + 256, x : x + 256] > 0, iterations=4 if wide else 2)
        for place in rng.permutation(spots((hu + 1024) / 2224, lung))[: None if wide else 6]:
            box = np.ix_(*(np.clip(np.arange(c - half, c + half + 1), 0, 255) for c in place))
            yield example(stretched(hu[box][None]).repeat(3, 0), SLICE_MM, (half, half), "wide" if wide else "slice")


def turned_views(rng: np.random.Generator, planes: Tensor) -> Tensor:
    """``[n, 3, KEPT, KEPT]`` to the classifier's view: shifted, turned, scaled, cut off, blurred, contrast changed."""
    count, size = len(planes), ClassifierNet.VIEW
    angle, scale = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.88, 1.14, count) * size / KEPT
    mirror = rng.choice([-1, 1], count)
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle) * scale * mirror, -np.sin(angle) * scale
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle) * scale * mirror, np.cos(angle) * scale
    theta[:, :, 2] = rng.normal(0, 1.2, (count, 2)).clip(-2.5, 2.5) / PIXEL_MM / (KEPT / 2)
    grid = F.affine_grid(torch.from_numpy(theta.astype(np.float32)), [count, 3, size, size], align_corners=False)
    # The edge of a crop may be near to anything: repeated pixels are no sign of either.
    edge = np.where(rng.random((count, 1, 1, 2)) < 0.15, rng.uniform(0.35, 0.65, (count, 1, 1, 2)), 2.0)
    grid = torch.minimum(grid, torch.from_numpy(edge.astype(np.float32)))
    seen = F.grid_sample(planes.float() / 255, grid, padding_mode="border", align_corners=False)
    return relit(rng, seen)


def classifier_batches(
    seed: int, examples: Iterable[Example], size: int, shares: Mapping[str, float] = SHARES
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches ``views [n,3,y,x]``, ``nodule [n]``, ``malignancy [n]`` (1 to 5, 0 unknown)."""
    rng = np.random.default_rng(seed)
    pool = list(examples)
    planes = torch.from_numpy(np.stack([e.planes for e in pool]))
    nodule = torch.tensor([e.nodule for e in pool])
    malignancy = torch.tensor([e.malignancy for e in pool])
    often = Counter(e.kind for e in pool)
    chance = np.array([shares[e.kind] / often[e.kind] for e in pool])
    chance /= chance.sum()
    while True:
        rows = torch.from_numpy(rng.choice(len(pool), size, p=chance))
        yield turned_views(rng, planes[rows]), nodule[rows], malignancy[rows]


def classifier_loss(output: Tensor, nodule: Tensor, malignancy: Tensor) -> Tensor:
    """Cross-entropy with the readers' agreement, and with their mean score of malignancy where there is one."""
    known = (malignancy > 0).float()
    target = ((malignancy - 1) / 4).clamp(0, 1)
    logit = output.float()
    nodule_loss = F.binary_cross_entropy_with_logits(logit[:, 0], nodule)
    looks = F.binary_cross_entropy_with_logits(logit[:, 1], target, weight=known, reduction="sum")
    return nodule_loss + 0.5 * looks / known.sum().clamp(min=1)

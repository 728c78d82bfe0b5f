"""The training data: TCGA-LGG FLAIR sheets (Buda et al. 2019) and the augmentation.

A sheet holds one patient: tiles of 256 x 256 pixels of about 1 mm, anterior up, slices from foot to head (checked by
eye). Which side is the patient's left is not recorded and does not matter: left and right are mirrored at random.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, max_pool2d

from pipelines.tumor.network import SLICES, neighbours
from pipelines.tumor.prepare import BRIGHTEST, intensity_scale

FAT_SHARE = 0.3
"""Of the samples, whose head gets a thicker layer of fat."""
IMPLANT_SHARE = 0.25
"""Of the samples, which get the tumour of another patient."""
IMPLANT_EDGE = 9
"""Pixels over which an implanted tumour fades into the brain round it."""
FAINT_SHARE = 0.3
"""Of the samples, whose tumour stands out less."""
INSIDE_HEAD = 0.3
"""Normalised intensity above which a pixel belongs to the head."""
TONE_WIDTHS = (0.6, 0.4, 0.4, 0.6, 2.0)
"""Ranges of normalised intensity, from 0 up to ``BRIGHTEST``: air and fluid, brain, its bright end, lesion, fat."""
TILE = 256
CROP = 192
"""Pixels along each side of a training sample."""


@dataclass(frozen=True, eq=False)
class Patient:
    """One examination: ``image`` uint8 and ``mask`` bool ``[slice, row, column]``; ``scale`` divides intensities."""

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    scale: float

    @property
    def normalised(self) -> NDArray[np.float32]:
        """Intensities as the network wants them."""
        return np.minimum(self.image.astype(np.float32) / self.scale, BRIGHTEST)


def load_patients(data: Path, split: str) -> list[Patient]:
    """Read the patients of ``split`` (train, val or test) from ``data/lgg``.

    Raises ``FileNotFoundError`` when the set is not there, ``ValueError`` when the split has no patient.
    """
    folder = data / "lgg"
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / "index.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            if row["split"] == split:
                rows[row["folder"]].append(row)
    if not rows:
        raise ValueError(f"split {split!r} has no patient in {folder / 'index.csv'}; use train, val or test")
    return [_load(folder / name, sorted(tiles, key=lambda r: int(r["slice"]))) for name, tiles in sorted(rows.items())]


def _load(folder: Path, tiles: list[dict[str, str]]) -> Patient:
    corners = [(int(t["y"]), int(t["x"])) for t in tiles]
    sheet = np.asarray(Image.open(folder / "flair.webp").convert("L"))
    marks = np.asarray(Image.open(folder / "mask.png")) > 0
    image = np.stack([sheet[y : y + TILE, x : x + TILE] for y, x in corners])
    mask = np.stack([marks[y : y + TILE, x : x + TILE] for y, x in corners])
    return Patient(folder.name, image, mask, intensity_scale(image))


class Sampler:
    """Endless augmented batches: ``(image [n, 5, CROP, CROP], mask [n, 1, CROP, CROP])``.

    A batch holds a fixed share of slices with tumour. Patients are drawn with the square root of their number of
    slices, so that thin-sliced examinations do not crowd out the others.
    """

    def __init__(self, patients: list[Patient], *, batch: int, with_tumour: float, seed: int) -> None:
        self.batch = batch
        self.with_tumour = with_tumour
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.images = [torch.from_numpy(p.image) for p in patients]
        self.masks = [torch.from_numpy(p.mask) for p in patients]
        self.scales = [p.scale for p in patients]
        self.slices = [
            {True: np.flatnonzero(p.mask.any(axis=(1, 2))), False: np.flatnonzero(~p.mask.any(axis=(1, 2)))}
            for p in patients
        ]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        odds = {kind: np.sqrt([len(s[kind]) for s in self.slices]) for kind in (True, False)}
        while True:
            images, masks = [], []
            for k in range(self.batch):
                kind = k < round(self.batch * self.with_tumour)
                who = int(self.rng.choice(len(self.images), p=odds[kind] / odds[kind].sum()))
                at = int(self.rng.choice(self.slices[who][kind]))
                # Thin slices: also train with the neighbours that a thicker examination would have.
                step = int(self.rng.integers(1, 3)) if len(self.images[who]) >= 50 else 1
                near = neighbours(self.images[who], torch.tensor([at]), step)[0]
                images.append((near.float() / self.scales[who]).clamp(max=BRIGHTEST))
                masks.append(self.masks[who][at][None].float())
            image, mask = self._implant(*self._shape(torch.stack(images), torch.stack(masks)))
            yield self._intensity(self._fat(self._faint(image, mask))), mask

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(self.rng.uniform(low, high, (self.batch, *shape)).astype(np.float32))

    def _shape(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mirror, rotate, scale, stretch, shift and bend, in one interpolation."""
        angle = self._uniform(-0.35, 0.35)
        zoom = torch.exp(self._uniform(-0.28, 0.28)) * CROP / TILE
        stretch = torch.exp(self._uniform(-0.08, 0.08))
        mirror = torch.where(self._uniform(0, 1) < 0.5, -1.0, 1.0)
        shift = self._uniform(-0.22, 0.22, 2)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        theta = torch.stack(
            [
                torch.stack([cos * stretch * mirror, -sin, shift[:, 0]], 1),
                torch.stack([sin * stretch * mirror, cos, shift[:, 1]], 1),
            ],
            1,
        )
        bend = torch.randn(self.batch, 2, 5, 5, generator=self.noise) * self._uniform(0, 0.03, 1, 1, 1)
        smooth = interpolate(bend, size=(CROP, CROP), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        grid = affine_grid(theta, [self.batch, SLICES, CROP, CROP], align_corners=False) + smooth
        image = grid_sample(image, grid, align_corners=False)
        return image, (grid_sample(mask, grid, align_corners=False) > 0.5).float()

    def _implant(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Give some heads the tumour of another one of the batch, at its place and faded in.

        A few dozen patients show few places and shapes; this multiplies them (CarveMix, Zhang et al. 2021). Nothing is
        put outside the head.
        """
        before, marks = image.clone(), mask.clone()
        for k in np.flatnonzero(self.rng.random(self.batch) < IMPLANT_SHARE):
            donor = k - 1  # the first takes from the last
            graft = marks[donor]
            if not graft.any() or (before[k].mean(dim=0)[graft[0] > 0] > INSIDE_HEAD).float().mean() < 0.95:
                continue
            wide = max_pool2d(graft[None], IMPLANT_EDGE, 1, IMPLANT_EDGE // 2)
            weight = avg_pool2d(wide, IMPLANT_EDGE, 1, IMPLANT_EDGE // 2)[0]
            image[k] = torch.lerp(before[k], before[donor], weight)
            mask[k] = torch.maximum(marks[k] * (weight < 0.5), graft)
        return image, mask

    def _faint(self, image: Tensor, mask: Tensor) -> Tensor:
        """Bring the grey of some tumours nearer to that of brain (1), with a soft edge: not all of them shine."""
        loss = self._uniform(0, 0.6, 1, 1, 1) * (self._uniform(0, 1, 1, 1, 1) < FAINT_SHARE)
        return torch.lerp(image, torch.ones(()), loss * avg_pool2d(mask, 5, 1, 2))

    def _fat(self, image: Tensor) -> Tensor:
        """Thicken the bright fat outside some heads: subcutaneous fat of other patients is no abnormality."""
        for k in np.flatnonzero(self.rng.random(self.batch) < FAT_SHARE):
            view = image[k]  # a view
            head = ndimage.binary_fill_holes((view.amax(dim=0) > INSIDE_HEAD).numpy())
            outside = ndimage.distance_transform_edt(~head)
            band = torch.from_numpy((outside > 0) & (outside < self.rng.uniform(3, 35)))
            level = self.rng.uniform(1.3, 3.3)
            grain = interpolate(
                torch.randn(1, SLICES, 24, 24, generator=self.noise), size=(CROP, CROP), mode="bilinear"
            )
            view[:, band] = level * (1 + 0.08 * grain[0])[:, band]
        return image

    def _intensity(self, image: Tensor) -> Tensor:
        """Contrast, brightness, receive-coil shading, blur and noise."""
        # Tissue against tissue as other sequences show it: each range of intensities is stretched or squeezed.
        slopes = torch.exp(self._uniform(-0.35, 0.35, len(TONE_WIDTHS), 1, 1, 1)).unbind(1)
        starts = np.cumsum((0.0, *TONE_WIDTHS[:-1]))
        ranges = zip(starts, TONE_WIDTHS, slopes, strict=True)
        image = torch.stack([slope * (image - at).clamp(0, width) for at, width, slope in ranges]).sum(0)
        image = image.clamp(min=1e-4) ** torch.exp(self._uniform(-0.4, 0.4, 1, 1, 1))
        shading = torch.randn(self.batch, 1, 4, 4, generator=self.noise) * self._uniform(0, 0.2, 1, 1, 1)
        smooth = interpolate(shading, size=image.shape[2:], mode="bicubic", align_corners=True)
        image = image * torch.exp(smooth) * self._uniform(0.8, 1.2, 1, 1, 1)
        blurred = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
        image = torch.lerp(image, blurred, self._uniform(-0.6, 0.9, 1, 1, 1).clamp(min=0))
        spread = self._uniform(-0.04, 0.08, 1, 1, 1).clamp(min=0)
        image = image + spread * torch.randn(image.shape, generator=self.noise)
        return image.clamp(0, BRIGHTEST)

"""Nodules for the training of embeddings: their views, sizes, and how malignant LIDC's readers thought them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.nodule.crops import PIXEL_MM, gap, stretched
from pipelines.nodule.embedding import MOST_SLICES, EmbeddingNet
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.training.classifier_examples import KEPT, example
from pipelines.nodule.training.patches import Stack, stacks

MALIGNANT, BENIGN = 4.0, 2.0
"""Mean scores of the readers from which, and up to which, a nodule has a kind; the others are left out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodules:
    """All nodules of one split whose malignancy was scored."""

    planes: Tensor
    """``[views, 3, KEPT, KEPT]``, 0 to 255."""
    owner: Tensor
    """``[views]``: the nodule of each view; views of one nodule follow one another."""
    malignancy: npt.NDArray[np.float64]
    """``[nodules]``: 1 to 5."""
    diameter_mm: Tensor
    """``[nodules]``: of the sphere of the volume that two readers agree on, as the pipeline measures it."""
    patients: npt.NDArray[np.str_]

    @property
    def kinds(self) -> npt.NDArray[np.int64]:
        """1 malignant, 0 benign, -1 neither."""
        return np.where(self.malignancy >= MALIGNANT, 1, np.where(self.malignancy <= BENIGN, 0, -1))


def nodules(data: Path, split: str) -> Nodules:
    """Nodules of a split (``train``, ``val``, ``test``; by patient) of ``lidc_patches``."""
    marked_stacks = [s for s in stacks(data, split) if s.malignancy > 0 and s.diameter_mm > 0 and _marked(s).any()]
    views = [_views(stack) for stack in marked_stacks]
    voxel_mm3 = [stack.pixel_mm**2 * (stack.slice_mm or 1.0) for stack in marked_stacks]
    volumes = np.array([_marked(stack).sum() for stack in marked_stacks]) * voxel_mm3
    return Nodules(
        planes=torch.from_numpy(np.concatenate(views)),
        owner=torch.repeat_interleave(torch.arange(len(marked_stacks)), torch.tensor([len(v) for v in views])),
        malignancy=np.array([stack.malignancy for stack in marked_stacks]),
        diameter_mm=torch.from_numpy((6 * volumes / np.pi) ** (1 / 3)).float(),
        patients=np.array([stack.patient for stack in marked_stacks]),
    )


@torch.inference_mode()
def features_of(network: EmbeddingNet, of: Nodules) -> Tensor:
    """``[nodules, features]``: the mean over the views of each nodule."""
    edge = (KEPT - ClassifierNet.VIEW) // 2
    inner = slice(edge, KEPT - edge)
    seen = torch.cat([network.features(part[:, :, inner, inner].float() / 255) for part in of.planes.split(128)])
    summed = torch.zeros(len(of.malignancy), seen.shape[1]).index_add_(0, of.owner, seen)
    return summed / torch.bincount(of.owner)[:, None]


def _marked(stack: Stack) -> npt.NDArray[np.bool_]:
    return stack.readers >= min(2, stack.raters)


def _views(stack: Stack) -> npt.NDArray[np.uint8]:
    """The slices in which the nodule is largest, with their neighbours."""
    marked, step = _marked(stack), gap(stack.slice_mm)
    area = marked.sum((1, 2))
    planes = []
    for middle in np.argsort(-area)[:MOST_SLICES]:
        if area[middle]:
            index = np.clip([middle - step, middle, middle + step], 0, len(area) - 1)
            centre = np.argwhere(marked[middle]).mean(0)
            grey = stretched(stack.grey[index].astype(np.float32))
            planes.append(example(grey, stack.pixel_mm or PIXEL_MM, centre, "nodule", stack).planes)
    return np.stack(planes)

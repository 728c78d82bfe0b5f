"""Cases that readers have verified as training data: a data set of nnU-Net v2, such as ``ainode export`` writes.

What readers marked becomes crops like those of ``lidc_patches``. Everything else is background, so what the networks
propose there is an example of what is mistaken for a nodule; lesions that readers rejected are among it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from pipelines.nnunet_data_set import DataSetError, NnunetDataSet, axial_stack
from pipelines.nodule.candidates import crop_lungs
from pipelines.nodule.classify import classify
from pipelines.nodule.crops import CROP, PIXEL_MM, Window, gap
from pipelines.nodule.lungs import Lungs, find_lungs
from pipelines.nodule.search import Networks, candidates
from pipelines.nodule.training.classifier_examples import Example, example
from pipelines.nodule.training.insertion import Array
from pipelines.nodule.training.patches import Stack

READERS, OF_ANOTHER = 4, 1
"""Written where the lesion is, and where another one is: of four readers, as in ``lidc_patches``."""
MARGIN_MM = 6.0
"""Slices of a crop above and below its lesion."""
BESIDE_MM = 3.0
"""Nearer to a lesion than this, a candidate is neither a nodule nor a mistake."""
MISTAKES = 40
"""Of a case those candidates that the classifier likes best."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifiedCase:
    """A chest CT (HU, ``[slice, row, column]``, axial, foot to head) with what readers marked in it."""

    name: str
    hu: Array
    spacing: tuple[float, float, float]
    """mm: slice, row, column."""
    lesions: npt.NDArray[np.int32]
    """Number of the lesion in each voxel; 0: none."""
    lungs: Lungs = field(repr=False)


def read_cases(data_set: NnunetDataSet, split: str) -> Iterator[VerifiedCase]:
    """Read the cases of ``train`` or ``val`` one after another.

    Raises ``DataSetError`` for a case that is no chest CT, ``FileNotFoundError`` when a file is missing.
    """
    channel = data_set.channel("CT")
    for name in data_set.splits[split]:
        image, label = data_set.read(name, channel)
        columns, rows, slices = (float(mm) for mm in image.header.get_zooms()[:3])
        hu, spacing = axial_stack(image), (slices, rows, columns)
        lungs = find_lungs(hu, spacing) if hu.min() < -500 else None
        if lungs is None:
            raise DataSetError(
                f"case {name} of {data_set.folder} shows no lungs in HU; these networks are for chest CT"
            )
        marked, _ = ndimage.label(axial_stack(label) > 0, np.ones((3, 3, 3)))
        yield VerifiedCase(name=name, hu=hu, spacing=spacing, lesions=marked.astype(np.int32), lungs=lungs)


def stacks_of(case: VerifiedCase) -> list[Stack]:
    """Each lesion of a case as a crop of ``PIXEL_MM`` with the native slices round it."""
    stacks = []
    for number, box in enumerate(ndimage.find_objects(case.lesions), 1):
        margin = max(gap(case.spacing[0]), round(MARGIN_MM / case.spacing[0]))
        slices = np.arange(max(0, box[0].start - margin), min(len(case.hu), box[0].stop + margin))
        own = case.lesions == number
        centre = np.argwhere(own).mean(0)
        window = Window.round(centre[1], centre[2], case.spacing)
        mine = _cut(own, window, slices)
        readers = np.where(_cut(case.lesions > 0, window, slices), OF_ANOTHER, 0)
        readers[mine] = READERS
        if not mine.any():
            continue
        volume = float(own.sum() * np.prod(case.spacing))
        stacks.append(
            Stack(
                grey=(window.cut(case.hu, slices).numpy() * 255).round().astype(np.uint8),
                readers=readers.astype(np.uint8),
                raters=READERS,
                pixel_mm=PIXEL_MM,
                slice_mm=case.spacing[0],
                diameter_mm=2 * (3 * volume / (4 * np.pi)) ** (1 / 3),
                malignancy=0.0,
                patient=case.name,
            )
        )
    return stacks


def _cut(mask: npt.NDArray[np.bool_], window: Window, slices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return ``[n, CROP, CROP]`` as ``Window.cut`` does of an image; nothing is marked beyond the edge."""
    rows, columns = (np.arange(c, c + n) for c, n in zip(window.corner, window.size, strict=True))
    inside = (rows >= 0) & (rows < mask.shape[1]), (columns >= 0) & (columns < mask.shape[2])
    native = mask[np.ix_(slices, rows.clip(0, mask.shape[1] - 1), columns.clip(0, mask.shape[2] - 1))]
    native = native & np.logical_and.outer(*inside)
    planes = torch.from_numpy(native.astype(np.float32))[:, None]
    fine = F.interpolate(planes, size=(CROP, CROP), mode="bilinear", align_corners=False)
    return fine[:, 0].numpy() > 0.5


def mistakes(networks: Networks, case: VerifiedCase) -> Iterator[Example]:
    """What ``networks`` propose where readers marked nothing, those first that the classifier takes for nodules."""
    crop = crop_lungs(case.hu, case.spacing, case.lungs)
    proposed = candidates(networks.heat(crop), crop, case.spacing)
    away = _distance_mm(case)
    at = [
        tuple(np.clip(np.round(candidate.centre), 0, np.array(case.hu.shape) - 1).astype(int)) for candidate in proposed
    ]
    free = [candidate for candidate, place in zip(proposed, at, strict=True) if away[place] > BESIDE_MM]
    verdicts = classify(networks.classifier, case.hu, case.spacing, free, networks.device)
    step = gap(case.spacing[0])
    for index in np.argsort([-verdict.nodule for verdict in verdicts])[:MISTAKES]:
        z, y, x = free[index].centre
        window = Window.round(y, x, case.spacing)
        planes = window.cut(case.hu, round(z) + np.array([-step, 0, step])).numpy()
        centre = [
            (at - corner + 0.5) * CROP / size - 0.5
            for at, corner, size in zip((y, x), window.corner, window.size, strict=True)
        ]
        yield example(planes, PIXEL_MM, centre, "candidate")


def _distance_mm(case: VerifiedCase) -> npt.NDArray[np.float64]:
    if not case.lesions.any():
        return np.full(case.lesions.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(case.lesions == 0, sampling=case.spacing))

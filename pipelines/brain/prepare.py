"""From a T1 volume to what the anatomy network sees: head, brain, even intensities, white matter at one level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name for itself
from highdicom import Volume
from numpy.typing import NDArray
from scipy import ndimage

from node.pipeline import Unsuitable, sentence
from pipelines.brain.grid import box_of, cropped, patient_affine, resample
from pipelines.largest_part import largest_part

Floats = NDArray[np.float32]
Labeller = Callable[[Floats], NDArray[np.uint8]]
"""The network that tells white (1) and grey matter (2) from everything else (0)."""

BRAIN_ML = (600.0, 2200.0)
"""What adults have, with room on both sides."""
_COARSE_MM = 2.0
_HEAD = 0.1
"""Of the brightest level: darker is air."""
_VERTEX_CM2 = 20.0
_HEIGHT_MM = 200
"""Below the vertex there is no brain."""
_MARGIN = 10
"""Voxels round the brain that the anatomy network sees."""
_WHITE = 1.07
"""Level of white matter at which the network agrees best with FreeSurfer; measured, see MODEL_CARD.md."""
_SHRINK = 4
_ITERATIONS = (40, 40, 30)


@dataclass(frozen=True, kw_only=True, eq=False)
class Brain:
    """The box that holds the brain, 1 mm voxels that grow to Left, Foot, Anterior."""

    image: Floats
    """Even intensities; white matter at one level."""
    affine: NDArray[np.float64]
    """To LPS mm."""


def find_brain(volume: Volume, tissue: Labeller) -> Brain:
    """Cut the brain out of ``volume`` and even out its intensities. Raises ``Unsuitable`` when there is none."""
    head, affine = _head(volume)
    labels = tissue(head)
    brain = largest_part(labels > 0)
    millilitres = brain.sum() / 1000
    if not BRAIN_ML[0] <= millilitres <= BRAIN_ML[1]:
        raise Unsuitable(
            sentence(
                "No whole adult brain was recognised: {volume} ml of grey and white matter, expected are {least} to "
                "{most} ml",
                volume=f"{millilitres:.0f}",
                least=f"{BRAIN_ML[0]:.0f}",
                most=f"{BRAIN_ML[1]:.0f}",
            )
        )
    box = box_of(brain, _MARGIN)
    brain, labels, image = brain[box], labels[box], head[box]
    even = image / _shading(image, brain)
    level = float(np.median(even[brain & (labels == 1)]))
    return Brain(image=(even * (_WHITE / level)).astype(np.float32), affine=cropped(affine, box))


def _head(volume: Volume) -> tuple[Floats, NDArray[np.float64]]:
    """The upper part of the head, from 0 (air) to 1, 1 mm voxels."""
    source = np.ascontiguousarray(volume.array, np.float32)
    coarse_affine, shape = patient_affine(volume, _COARSE_MM)
    coarse = resample(source, volume.affine, coarse_affine, shape)
    least = float(coarse.min())
    brightest = float(np.quantile(coarse[coarse > least], 0.999)) if (coarse > least).any() else least
    if brightest <= least:
        raise Unsuitable(sentence("No head in the images: all voxels are equal"))
    inside = largest_part((coarse - least) > _HEAD * (brightest - least))
    areas = inside.sum(axis=(0, 2)) * _COARSE_MM**2 / 100
    if not (areas > _VERTEX_CM2).any():
        raise Unsuitable(sentence("No head in the images: nothing is as large"))
    box = box_of(inside, 2)
    vertex = max(int(np.argmax(areas > _VERTEX_CM2)) - 5, 0)
    low = min(box[1].stop, vertex + round(_HEIGHT_MM / _COARSE_MM))
    box = (box[0], slice(vertex, low), box[2])
    affine = cropped(coarse_affine, box)
    affine[:3, :3] /= _COARSE_MM
    size = [round((side.stop - side.start) * _COARSE_MM) for side in box]
    fine = resample(source, volume.affine, affine, size)
    return np.clip((fine - least) / (brightest - least), 0, 1), affine


def _shading(image: Floats, brain: NDArray[np.bool_]) -> Floats:
    """What the receive coils make of an even brain (N4, Tustison et al., IEEE TMI 29, 2010)."""
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=3))
    whole = sitk.GetImageFromArray(image)
    small, small_mask = (
        sitk.Shrink(volume, [_SHRINK] * 3) for volume in (whole, sitk.GetImageFromArray(mask.astype(np.uint8)))
    )
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.SetNumberOfThreads(1)  # the order of sums, and with it the result, would be another each time
    n4.Execute(small, small_mask)
    return np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)))

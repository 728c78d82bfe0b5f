"""Volumetry of the brain as a pipeline: T1 volume in, structures with volume and asymmetry out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from node.pipeline import (
    Algorithm,
    Code,
    Findings,
    Measurement,
    Needs,
    Segment,
    Series,
    Unsuitable,
    Volume,
    codes,
    joined,
    sentence,
)
from pipelines.brain.anatomy import FLUID, STRUCTURES, Structure
from pipelines.brain.contrast import THICKEST_MM, why_not_native_t1
from pipelines.brain.grid import box_of, cropped
from pipelines.brain.midline import mid_plane
from pipelines.brain.network import MeshNet
from pipelines.brain.prepare import find_brain
from pipelines.device import Portions, to_device
from pipelines.largest_part import largest_part
from pipelines.structures import PRIVATE_SCHEME
from pipelines.weights import fill, load_weights

VERSION = "1.0.0"
WEIGHTS = Path(__file__).with_name("weights.safetensors")
SCOPE = sentence(
    "Measures brain structures of adults on native 3D T1-weighted images; looks for no disease and compares with no "
    "norms."
)
ASYMMETRY = Code("asymmetry-index", PRIVATE_SCHEME, "Asymmetry index")
UNSURE = 0.85
"""Mean probability of the labels below which somebody should look: see MODEL_CARD.md."""
LEAST_ML = 0.5
"""Of each side of a small structure; less means that the network does not know these images."""
CUT_OFF_VOXELS = 20
"""Of a structure on the outermost voxels of the images: it may go on outside."""
_SLABS = (16, 8, 4)
_SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right}


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlines:
    """What the networks saw: arrays of the brain's box, 1 mm voxels that grow to Left, Foot, Anterior."""

    labels: NDArray[np.uint8]
    left: NDArray[np.bool_]
    affine: NDArray[np.float64]
    """To LPS mm."""
    confidence: float
    """Mean probability of the labels within the brain, 0 to 1."""
    at_edge: NDArray[np.bool_]
    """The outermost voxels of the images, and what lies outside."""

    def mask(self, structure: Structure, side: str) -> NDArray[np.bool_]:
        """``side``: ``"left"``, ``"right"`` or ``""`` for both."""
        inside = np.isin(self.labels, structure.labels)
        return inside & (self.left == (side == "left")) if side else inside

    def on_grid_of(self, volume: Volume) -> Outlines:
        """The nearest label at each voxel of ``volume``: of masks that are resampled one by one, some overlap."""
        to_box = np.linalg.inv(self.affine) @ volume.affine
        labels, left, at_edge = (
            ndimage.affine_transform(array.astype(np.uint8), to_box[:3, :3], to_box[:3, 3], volume.array.shape, order=0)
            for array in (self.labels, self.left, self.at_edge)
        )
        return replace(self, labels=labels, left=left > 0, affine=volume.affine, at_edge=at_edge > 0)


class BrainPipeline:
    """The loaded networks."""

    def __init__(self, *, weights: Path | None, device: str) -> None:
        loaded = load_weights(weights or WEIGHTS)
        self._networks = {
            "tissue": MeshNet(5, 3, nn.ReLU(inplace=True)),
            "anatomy": MeshNet(30, 50, nn.ELU(inplace=True)),
        }
        for name, network in self._networks.items():
            own = {key.removeprefix(f"{name}."): t for key, t in loaded.tensors.items() if key.startswith(f"{name}.")}
            fill(network, own, weights or WEIGHTS)
            network.eval()
        self._portions = Portions(device, _SLABS)
        self._sha256 = loaded.sha256

    @property
    def algorithm(self) -> Algorithm:
        """Identity and weights; volumes are computed in single precision everywhere."""
        return Algorithm(
            name="Brain volumetry",
            version=VERSION,
            weights_sha256=self._sha256,
            parameters={"precision": "fp32", "device": self._portions.device},
            scope=SCOPE,
        )

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """See ``node.pipeline.Pipeline``."""
        return tuple(structure.label(side) for structure in STRUCTURES for side in structure.sides)

    @property
    def needs(self) -> Needs:
        """MR of a whole head with nearly cubic voxels."""
        return Needs(
            modalities=frozenset({"MR"}),
            body_parts=frozenset({"BRAIN", "HEAD", "SKULL"}),
            min_slices=80,
            max_slice_spacing_mm=THICKEST_MM,
            max_pixel_spacing_mm=THICKEST_MM,
            min_coverage_mm=130.0,
            min_field_mm=130.0,
        )

    def run(self, series: Series) -> Findings:
        self._portions.begin()
        reason = why_not_native_t1(series)
        if reason:
            raise Unsuitable(sentence("Series is not a native 3D T1 of an adult: {reason}", reason=reason))
        volume = series.volume()
        return self.measure(self.outline(volume), volume)

    def outline(self, volume: Volume) -> Outlines:
        """Label every voxel of the brain. Raises ``Unsuitable`` when there is none that the networks know."""
        brain = find_brain(volume, lambda image: self._label("tissue", image)[0])
        labels, probability = self._label("anatomy", brain.image)
        labels = np.where(largest_part(labels > 0), labels, 0).astype(np.uint8)
        inside = labels > 0
        if not inside.any():
            raise Unsuitable(sentence("No structure of a brain was recognised"))
        to_source = np.linalg.inv(volume.affine) @ brain.affine
        places = np.ogrid[tuple(slice(0, size) for size in labels.shape)]
        at_edge = np.zeros(labels.shape, np.bool_)
        for axis, size in enumerate(volume.array.shape):
            index = sum(to_source[axis, other] * places[other] for other in range(3)) + to_source[axis, 3]
            at_edge |= (index < 0.5) | (index > size - 1.5)
        return Outlines(
            labels=labels,
            left=mid_plane(labels).is_left(labels.shape),
            affine=brain.affine,
            confidence=float(probability[inside].mean()),
            at_edge=at_edge,
        )

    def measure(self, outlines: Outlines, volume: Volume) -> Findings:
        """Volumes and asymmetry of the structures that were seen whole. Raises ``Unsuitable`` for improbable ones."""
        segments: list[Segment] = []
        cut: list[str] = []
        shown = outlines.on_grid_of(volume)
        for structure in STRUCTURES:
            masks = {side: outlines.mask(structure, side) for side in structure.sides}
            small = min(int(mask.sum()) for mask in masks.values()) / 1000
            if small < LEAST_ML:
                raise Unsuitable(
                    sentence(
                        "The network does not recognise these images: {structure} of {volume} ml. It knows native 3D "
                        "T1-weighted images of adults",
                        structure=sentence(structure.name),
                        volume=f"{small:.1f}",
                    )
                )
            if any((mask & outlines.at_edge).sum() > CUT_OFF_VOXELS for mask in masks.values()):
                cut.append(structure.name)
                continue
            segments += _segments(structure, masks, shown, volume)
        poor = outlines.confidence < UNSURE
        return Findings(
            segments=tuple(segments),
            remarks=tuple(_remarks(outlines, cut=bool(cut))),
            evaluations={codes.DCM.ImageQuality: codes.DCM.PoorImageQuality} if poor else {},
            cut_off=_cut_off(cut) if cut else "",
        )

    def _label(self, name: str, image: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Label and its probability."""

        def work(slab: int, device: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            network = self._networks[name].to(device)
            labels, probability = network.labels(to_device(torch.from_numpy(image), device), slab)
            return labels.cpu().numpy(), probability.cpu().numpy()

        return self._portions.run(work)


def _segments(
    structure: Structure, masks: dict[str, NDArray[np.bool_]], shown: Outlines, volume: Volume
) -> Iterator[Segment]:
    millilitres = {side: float(mask.sum()) / 1000 for side, mask in masks.items()}
    asymmetry: tuple[Measurement, ...] = ()
    if structure.paired:
        index = asymmetry_index(millilitres["left"], millilitres["right"])
        asymmetry = (Measurement(name=ASYMMETRY, value=float(round(index)), unit=codes.UCUM.Percent),)
    for side in masks:
        mask = shown.mask(structure, side)
        box = box_of(mask, 0)
        yield Segment(
            label=structure.label(side),
            mask=Volume(
                mask[box].astype(np.uint8),
                cropped(shown.affine, box),
                coordinate_system="PATIENT",
                frame_of_reference_uid=volume.frame_of_reference_uid,
            ),
            category=codes.SCT.AnatomicalStructure,
            type=structure.code,
            colour=structure.colour,
            laterality=_SIDES.get(side),
            measurements=(
                Measurement(name=codes.SCT.Volume, value=1000 * millilitres[side], unit=codes.UCUM.CubicMillimeter),
                *asymmetry,
            ),
        )


def asymmetry_index(left: float, right: float) -> float:
    """Difference of two volumes as a percentage of their mean; positive: the left one is larger."""
    return 200 * (left - right) / (left + right)


def _cut_off(names: Sequence[str]) -> str:
    listed = joined(map(sentence, names), ", ")
    return sentence("The brain reaches the edge of the images. Not measured: {names}.", names=listed)


def _remarks(outlines: Outlines, *, cut: bool) -> Iterator[str]:
    if not cut:
        tissue = np.count_nonzero(outlines.labels) - np.count_nonzero(np.isin(outlines.labels, FLUID))
        yield sentence("Brain tissue without ventricles: {volume} ml.", volume=f"{tissue / 1000:.0f}")
    approximate = joined((sentence(structure.name) for structure in STRUCTURES if structure.approximate), ", ")
    yield sentence("Approximate: {names}.", names=approximate)
    yield sentence(
        "Asymmetry index: left minus right, as a percentage of their mean. It differs from that of FreeSurfer by 5 "
        "points on average in the hippocampus (up to 9), by 11 in the amygdala (up to 23)."
    )
    yield sentence(
        "No comparison with norms for age and sex. Not evaluated: atrophy, tumours, infarcts, 1.5 T scanners."
    )
    if outlines.confidence < UNSURE:
        yield sentence(
            "The network is unsure (mean probability {mean} %, usual is {usual} % and more): check the outlines before "
            "any volume is used.",
            mean=f"{100 * outlines.confidence:.0f}",
            usual=f"{100 * UNSURE:.0f}",
        )

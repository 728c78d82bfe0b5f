"""From a CT volume to nodules: candidates of two sources, sorted by the classifier, outlined, and weighed together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from node.errors import WeightsError
from pipelines.device import Portions, native_precision
from pipelines.nodule.blobs import blobs
from pipelines.nodule.candidates import SLABS, Candidate, Crop, crop_lungs, heat_map, peaks
from pipelines.nodule.classify import Classification, classify
from pipelines.nodule.lungs import Lungs
from pipelines.nodule.network import CandidateNet, ClassifierNet, OutlineNet
from pipelines.nodule.outline import Outline, outline
from pipelines.nodule.weighing import Weighing
from pipelines.weights import fill

LOWEST_SCORE = 0.1
"""Peaks of the heat map below are no candidates."""
MAX_OUTLINES = 40


def part_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of network ``name``, as it calls them itself."""
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
    """The three of them, in evaluation mode, on ``device``; the candidate stage falls back where memory is short."""

    candidate: CandidateNet
    classifier: ClassifierNet
    outline: OutlineNet
    weighing: Weighing
    device: str
    portions: Portions

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], path: Path, device: str) -> Networks:
        """From the ``NAME.KEY`` tensors of ``path``; ``WeightsError`` where they are of other networks."""
        networks: dict[str, Any] = {"candidate": CandidateNet(), "classifier": ClassifierNet(), "outline": OutlineNet()}
        for name, network in networks.items():
            fill(network, part_of(tensors, name), path)
            network.eval().requires_grad_(requires_grad=False)
            layout = torch.channels_last_3d if name == "candidate" else torch.channels_last
            network.to(device=device, memory_format=layout)
        if "weighing.values" not in tensors:
            raise WeightsError(f"weights: {path} do not say how candidates are weighed; train them again")
        weighing = Weighing(*tensors["weighing.values"].tolist())
        return cls(**networks, weighing=weighing, device=device, portions=Portions(device, SLABS))

    def heat(self, crop: Crop) -> npt.NDArray[np.float32]:
        """``candidates.heat_map`` in portions that fit the device's memory."""
        return self.portions.run(
            lambda kept, device: heat_map(
                self.candidate.to(device), crop, device, kept=kept, precision=native_precision(device)
            )
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodule:
    """A candidate with what the networks say of it."""

    candidate: Candidate
    verdict: Classification
    outline: Outline
    probability: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """All that was looked at."""

    nodules: list[Nodule]
    """Outlined ones, most probable first; no two share a voxel."""
    heat: npt.NDArray[np.float32]
    crop: Crop


def candidates(heat: npt.NDArray[np.float32], crop: Crop, spacing: Sequence[float]) -> list[Candidate]:
    """Peaks of the heat map, with the response of the blob that lies there, and all other blobs."""
    detected = peaks(heat, crop, LOWEST_SCORE)
    places = [np.multiply(c.centre, spacing).tolist() for c in detected]
    for blob in blobs(crop):
        place = np.multiply(blob.centre, spacing).tolist()
        away = [math.dist(place, other) for other in places]
        nearest = int(np.argmin(away)) if away else -1
        if away and away[nearest] <= max(3.0, blob.diameter_mm / 4):
            peak = detected[nearest]
            detected[nearest] = replace(peak, bulge_hu=max(peak.bulge_hu, blob.bulge_hu))
        else:
            detected.append(blob)
            places.append(place)
    return detected


def search(
    networks: Networks, hu: npt.NDArray[np.float32], spacing: Sequence[float], lungs: Lungs, lowest: float
) -> SearchResult:
    """Look for nodules in ``hu`` (axial ``[slice, row, column]``, slices and pixels ``spacing`` mm apart).

    Only what has a probability of ``lowest`` at least is outlined and returned.
    """
    crop = crop_lungs(hu, spacing, lungs)
    heat = networks.heat(crop)
    proposed = candidates(heat, crop, spacing)
    verdicts = classify(networks.classifier, hu, spacing, proposed, networks.device)
    chances = [networks.weighing.probability(v.nodule, c.bulge_hu) for c, v in zip(proposed, verdicts, strict=True)]
    nodules: list[Nodule] = []
    for i in np.argsort(chances)[::-1][:MAX_OUTLINES]:
        if chances[i] < lowest:
            break
        shape = outline(networks.outline, hu, spacing, proposed[i], networks.device)
        if shape is not None:
            nodules.append(Nodule(candidate=proposed[i], verdict=verdicts[i], outline=shape, probability=chances[i]))
    apart = [n for i, n in enumerate(nodules) if not any(_overlap(n.outline, m.outline) for m in nodules[:i])]
    return SearchResult(nodules=apart, heat=heat, crop=crop)


def _overlap(outline: Outline, other: Outline) -> bool:
    """Whether two outlines share a voxel: the same nodule met twice."""
    low = [max(a.start, b.start) for a, b in zip(outline.box, other.box, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(outline.box, other.box, strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return False
    cut = [
        o.mask[tuple(slice(a - s.start, b - s.start) for a, b, s in zip(low, high, o.box, strict=True))]
        for o in (outline, other)
    ]
    return bool((cut[0] & cut[1]).any())

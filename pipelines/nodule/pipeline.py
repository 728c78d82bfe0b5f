"""The nodule pipeline: lungs, candidates, outlines, findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from node.errors import WeightsError
from node.pipeline import (
    Algorithm,
    Findings,
    Lesion,
    Map,
    Needs,
    Segment,
    Series,
    Unsuitable,
    Volume,
    codes,
)
from pipelines.device import Portions, native_precision
from pipelines.explain import spread_map, spread_measurement
from pipelines.nodule.candidates import SLABS, Candidate, Crop, crop_lungs, heat_map, peaks, spread_at
from pipelines.nodule.lungs import Lungs, find_lungs
from pipelines.nodule.network import CandidateNet, OutlineNet
from pipelines.nodule.options import Options
from pipelines.nodule.outline import Outline, outline
from pipelines.weights import load_weights

VERSION = "1.0.0"
WEIGHTS = Path(__file__).with_name("weights.safetensors")
COARSEST_MM = 6.5
"""Larger voxels than this along any axis cannot show a nodule."""
HEAT = "Probability of nodule"
LOWEST_SCORE = 0.1
"""Candidates below are not worth an outline."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodule:
    """A candidate with its outline and the probability made of both."""

    candidate: Candidate
    outline: Outline
    probability: float


def probability(score: float, certainty: float) -> float:
    """One number from the detector's score and the outline's certainty: the mean of their logits."""
    both = (min(max(p, 1e-4), 1 - 1e-4) for p in (score, certainty))
    return 1 / (1 + math.exp(-sum(math.log(p / (1 - p)) for p in both) / 2))


class NodulePipeline:
    """Finds and outlines lung nodules; see MODEL_CARD.md for what it was measured on."""

    def __init__(self, *, weights: Path | None, device: str, options: Options) -> None:
        stored = load_weights(weights or WEIGHTS)
        self.device = device
        self.options = options
        self._portions = Portions(device, SLABS)
        self.candidate_net = CandidateNet()
        self.outline_net = OutlineNet()
        for name, network in (("candidate", self.candidate_net), ("outline", self.outline_net)):
            own = {k.removeprefix(f"{name}."): v for k, v in stored.tensors.items() if k.startswith(f"{name}.")}
            try:
                network.load_state_dict(own)
            except RuntimeError as error:
                raise WeightsError(
                    f"weights: {weights or WEIGHTS} is not of this network ({error}); train it again"
                ) from error
            network.eval().requires_grad_(requires_grad=False).to(device)
        self.candidate_net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.outline_net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._digest = stored.sha256

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm(
            name="ainode nodule",
            version=VERSION,
            weights_sha256=self._digest,
            parameters={
                "threshold": str(self.options.threshold),
                "max_findings": str(self.options.max_findings),
                "min_diameter_mm": str(self.options.min_diameter_mm),
                "precision": f"{native_precision(self.device)} (candidates), fp32 (outlines)",
            },
        )

    @property
    def needs(self) -> Needs:
        return Needs(
            modalities=frozenset({"CT"}),
            min_slices=16,
            max_slice_spacing_mm=COARSEST_MM,
            min_coverage_mm=60.0,
            min_field_mm=150.0,
            levels={5: (-4096.0, -300.0)},  # air, whatever the scanner pads with
        )

    def run(self, series: Series) -> Findings:
        volume = series.volume("HPL")
        spacing = tuple(float(s) for s in volume.spacing)
        if max(spacing) > COARSEST_MM:
            raise Unsuitable(f"Voxels of {max(spacing):.1f} mm are too coarse for nodules (limit {COARSEST_MM} mm).")
        lungs = find_lungs(volume.array, (spacing[0], spacing[1], spacing[2]))
        if lungs is None:
            raise Unsuitable("No aerated lung was found in these images.")
        crop = crop_lungs(volume.array, spacing, lungs)
        heat = self._heat(crop)
        nodules = self._outlined(volume.array, spacing, peaks(heat, crop, LOWEST_SCORE))
        shown = nodules[: self.options.max_findings]
        remarks = ["Nodules under 6 mm are often missed by this algorithm."]
        if spacing[0] > 3:
            remarks.append(f"Slices lie {spacing[0]:.1f} mm apart: small nodules may not be visible to it.")
        if not lungs.found:
            remarks.append("The lungs could not be delimited; the whole volume was searched.")
        if len(nodules) > len(shown):
            remarks.append(f"{len(nodules)} nodules were found; the {len(shown)} most probable are reported.")
        lesions = tuple(_lesion(i, n, volume, lungs) for i, n in enumerate(shown, 1))
        maps: tuple[Map, ...] = ()
        if self.options.maps:
            lesions, maps = self._explained(lesions, shown, heat, crop, volume)
        return Findings(lesions=lesions, maps=maps, remarks=tuple(remarks))

    def _explained(
        self,
        lesions: Sequence[Lesion],
        nodules: Sequence[Nodule],
        heat: npt.NDArray[np.float32],
        crop: Crop,
        volume: Volume,
    ) -> tuple[tuple[Lesion, ...], tuple[Map, ...]]:
        """The detector's own heat map, its spread round each nodule, and that spread as a measurement."""
        around = np.zeros(crop.inside.shape, np.float32)
        measured = []
        for lesion, nodule in zip(lesions, nodules, strict=True):
            deviation, cells = spread_at(self.candidate_net, crop, nodule.candidate.centre, self.device)
            around[cells] = np.maximum(around[cells], deviation)
            at = tuple(int(i) for i in crop.cell_of(nodule.candidate.centre))
            spread = spread_measurement(float(around[at]))
            measured.append(replace(lesion, measurements=(*lesion.measurements, spread)))
        grid = volume.affine @ crop.cells_to_source()
        score = np.where(crop.inside, 1 / (1 + np.exp(-heat[0])), 0).astype(np.float32)
        frame = volume.frame_of_reference_uid
        return tuple(measured), (
            Map(name=HEAT, volume=Volume(score, grid, "PATIENT", frame), quantity=codes.DCM.Probability),
            spread_map(Volume(around, grid, "PATIENT", frame)),
        )

    def nodules(self, hu: npt.NDArray[np.float32], spacing: Sequence[float], lungs: Lungs) -> list[Nodule]:
        """Everything above the threshold, most probable first. ``hu``: axial ``[slice, row, column]``."""
        crop = crop_lungs(hu, spacing, lungs)
        return self._outlined(hu, spacing, peaks(self._heat(crop), crop, LOWEST_SCORE))

    def _heat(self, crop: Crop) -> npt.NDArray[np.float32]:
        return self._portions.run(
            lambda kept, device: heat_map(
                self.candidate_net.to(device), crop, device, kept=kept, precision=native_precision(device)
            )
        )

    def _outlined(
        self, hu: npt.NDArray[np.float32], spacing: Sequence[float], candidates: Sequence[Candidate]
    ) -> list[Nodule]:
        found: list[Nodule] = []
        for candidate in candidates:
            shape = outline(self.outline_net, hu, spacing, candidate, self.device)
            if shape is None or shape.diameter_mm < self.options.min_diameter_mm:
                continue
            chance = probability(candidate.score, shape.certainty)
            if chance >= self.options.threshold:
                found.append(Nodule(candidate=candidate, outline=shape, probability=chance))
        found.sort(key=lambda n: -n.probability)
        return [n for i, n in enumerate(found) if not any(_overlap(n.outline, m.outline) for m in found[:i])]


def _overlap(one: Outline, other: Outline) -> bool:
    """Whether two outlines share a voxel: the same nodule met twice."""
    low = [max(a.start, b.start) for a, b in zip(one.box, other.box, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(one.box, other.box, strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return False
    cut = [
        o.mask[tuple(slice(a - s.start, b - s.start) for a, b, s in zip(low, high, o.box, strict=True))]
        for o in (one, other)
    ]
    return bool((cut[0] & cut[1]).any())


def _lesion(number: int, nodule: Nodule, volume: Volume, lungs: Lungs) -> Lesion:
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[nodule.outline.box] = nodule.outline.mask
    column = np.argwhere(mask)[:, 2].mean()
    middle = (lungs.midline + 0.5) * volume.array.shape[2] / lungs.mask.shape[2] - 0.5
    laterality = (codes.SCT.Left if column > middle else codes.SCT.Right) if lungs.found else None
    segment = Segment(
        label=f"Nodule {number}",
        mask=volume.with_array(mask),
        category=codes.SCT.MorphologicallyAbnormalStructure,
        type=codes.SCT.Nodule,
    )
    return Lesion(
        segment=segment,
        finding=codes.SCT.Nodule,
        site=codes.SCT.Lung,
        laterality=laterality,
        probability=round(nodule.probability, 4),
    )

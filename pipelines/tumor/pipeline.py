"""FLAIR abnormality in brain MR as a pipeline: volume in, one lesion per connected region out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.pipeline import (
    Algorithm,
    Code,
    Findings,
    Lesion,
    Map,
    Needs,
    Segment,
    Series,
    Unsuitable,
    Volume,
    codes,
    marked,
    sentence,
)
from pipelines.device import Portions
from pipelines.explain import saliency_map, spread_map, spread_measurement
from pipelines.options import parameters_of
from pipelines.structures import PRIVATE_SCHEME
from pipelines.tumor.contrast import why_not_flair
from pipelines.tumor.coverage import why_cut_off
from pipelines.tumor.explain import deviation, saliency
from pipelines.tumor.grid import NetworkGrid
from pipelines.tumor.lesions import lesion_regions, side_of, third_of
from pipelines.tumor.network import FlairNet
from pipelines.tumor.prepare import BATCHES, BRIGHTEST, FOREGROUND, intensity_scale, probabilities
from pipelines.weights import fill, load_weights

VERSION = "1.3.2"
WEIGHTS = Path(__file__).with_name("weights.safetensors")
COARSEST_AXIAL_MM = 2.5
"""Axial pixels larger than this (thick coronal or sagittal slices) show no anatomy that the network knows."""
SCOPE = marked(
    "Finds FLAIR abnormality of low-grade glioma from {volume} ml (15 of 15 in tests); smaller lesions are left out, "
    "other diseases were not evaluated."
)
"""The figures of MODEL_CARD.md."""
MAP = "Probability of FLAIR abnormality"
ABNORMALITY = Code("flair-abnormality", PRIVATE_SCHEME, "FLAIR abnormality")
POSITION = Code("head-position", PRIVATE_SCHEME, "Position in head, front to back")
REMARKS = (
    sentence("The outlined region is what is bright on FLAIR, whatever its cause: mass and oedema are not told apart."),
    sentence("Trained on low-grade glioma only."),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The table ``[pipelines.NAME.options]``."""

    threshold: float = 0.5
    """Probability above which a voxel belongs to a lesion, between 0 and 1."""
    min_volume_ml: float = 1.0
    """Smaller lesions are not reported; millilitres, 0 or more."""
    min_probability: float = 0.7
    """Lesions whose mean probability is lower are not reported, 0 to 1, unless they are large."""
    large_volume_ml: float = 3.0
    """So large a lesion is reported however doubtful it is; millilitres, 0 or more. The default is over twice the
    largest false one of the validation patients."""
    mirror: bool = True
    """Average with the prediction for the mirrored head: twice the time, fewer false positives."""
    any_contrast: bool = False
    """Also analyse series whose headers speak against FLAIR, with a remark."""
    maps: bool = False
    """Also say why and how surely: probability, saliency (Grad-CAM) and spread over changed copies, per voxel."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; use a number between 0 and 1, for example 0.5")
        if not 0 <= self.min_probability <= 1:
            raise ValueError(f"min_probability is {self.min_probability}; use a number from 0 to 1, for example 0.7")
        if not 0 <= self.min_volume_ml <= 1000:
            raise ValueError(f"min_volume_ml is {self.min_volume_ml}; use millilitres from 0 to 1000, for example 1.0")
        if not 0 <= self.large_volume_ml <= 1000:
            raise ValueError(f"large_volume_ml is {self.large_volume_ml}; use millilitres from 0 to 1000, such as 3.0")


def read_options(options: Mapping[str, Any]) -> Options:
    """``options`` as ``Options``; ``ValueError`` names the option, its value and the remedy."""
    known = {f.name: type(f.default) for f in fields(Options)}
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"option {name} = {value!r} is unknown; use one of {', '.join(known)}")
        allowed = (int, float) if known[name] is float else (known[name],)
        if not isinstance(value, allowed) or (isinstance(value, bool) and known[name] is not bool):
            raise ValueError(f"option {name} is {value!r}; give a {known[name].__name__}")
    return Options(**options)


def _position(third: str, *, midline: bool) -> Code:
    """The third of the head in which a lesion lies."""
    if midline:
        return Code(f"head-{third}-midline", PRIVATE_SCHEME, f"{third} third, near the midline")
    return Code(f"head-{third}", PRIVATE_SCHEME, f"{third} third")


def _numbered(lesion: Lesion, number: int) -> Lesion:
    return replace(lesion, segment=replace(lesion.segment, label=f"{lesion.segment.label} {number}"))


def find_lesions(
    probability: NDArray[np.float32], voxel_mm: tuple[float, float, float], options: Options
) -> NDArray[np.int32]:
    """``lesion_regions`` as the options say."""
    return lesion_regions(
        probability,
        voxel_mm,
        threshold=options.threshold,
        min_volume_ml=options.min_volume_ml,
        min_probability=options.min_probability,
        large_volume_ml=options.large_volume_ml,
    )


class TumorPipeline:
    """The loaded network with its settings."""

    def __init__(self, *, weights: Path | None, device: str, options: Options) -> None:
        loaded = load_weights(weights or WEIGHTS)
        self.network = FlairNet()
        fill(self.network, loaded.tensors, weights or WEIGHTS)
        self._portions = Portions(device, BATCHES)
        self.network.to(device).eval()
        self.options = options
        self._sha256 = loaded.sha256

    @property
    def algorithm(self) -> Algorithm:
        """Identity, weights and settings."""
        return Algorithm(
            name="FLAIR abnormality",
            version=VERSION,
            weights_sha256=self._sha256,
            parameters=parameters_of(asdict(self.options)) | {"precision": "fp32", "device": self._portions.device},
            scope=sentence(SCOPE, volume=f"{self.options.min_volume_ml:g}"),
        )

    @property
    def needs(self) -> Needs:
        """Brain MR on a regular grid of at least ten slices."""
        return Needs(
            modalities=frozenset({"MR"}),
            body_parts=frozenset({"BRAIN", "HEAD", "SKULL", "HEADNECK"}),
            min_slices=10,
            max_slice_spacing_mm=8.0,
            max_pixel_spacing_mm=1.5,
            min_coverage_mm=60.0,
            min_field_mm=120.0,
        )

    def run(self, series: Series) -> Findings:
        self._portions.begin()
        doubt = why_not_flair(series)
        if doubt and not self.options.any_contrast:
            raise Unsuitable(sentence("Series is not T2-weighted FLAIR: {doubt}", doubt=doubt))
        volume = series.volume("HPL")
        probability, zones, head, maps, cut = self._analyse(volume)
        regions: list[Lesion] = []
        for number in range(1, int(zones.max()) + 1):
            mask = (zones == number) & (probability > self.options.threshold)
            if mask.any():
                lesion = self._lesion(mask, volume, probability, head)
                spread = [spread_measurement(float(m.volume.array[mask].mean())) for m in maps[2:]]
                regions.append(replace(lesion, measurements=(*lesion.measurements, *spread)))
        lesions = [
            _numbered(lesion, number)
            for number, lesion in enumerate(sorted(regions, key=lambda region: region.rank), 1)
        ]
        remarks = (*REMARKS, *([sentence("Not recognised as FLAIR: {doubt}.", doubt=doubt)] if doubt else []))
        return Findings(lesions=tuple(lesions), maps=maps, remarks=remarks, looked_for=(ABNORMALITY,), cut_off=cut)

    def _analyse(
        self, volume: Volume
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_], tuple[Map, ...], str]:
        """Probability, lesion zones, head and the maps, on the grid of ``volume``; where the brain is cut off."""
        spacing = tuple(float(mm) for mm in volume.spacing)
        if max(spacing[1:]) > COARSEST_AXIAL_MM:
            raise Unsuitable(
                sentence(
                    "Axial pixels are {down} x {across} mm, at most {limit} mm can be read",
                    down=f"{spacing[1]:.1f}",
                    across=f"{spacing[2]:.1f}",
                    limit=f"{COARSEST_AXIAL_MM}",
                )
            )
        grid = NetworkGrid.of(volume.array.shape, (spacing[0], spacing[1], spacing[2]))
        coarse = grid.forward(np.ascontiguousarray(volume.array, np.float32))
        try:
            scale = intensity_scale(coarse)
        except ValueError as reason:
            raise Unsuitable(sentence("No head in the images: {reason}", reason=reason.args[0])) from reason
        normalised = np.clip(coarse / scale, 0, BRIGHTEST).astype(np.float32)
        seen = self._portions.run(
            lambda batch, device: probabilities(
                self.network.to(device), normalised, mirror=self.options.mirror, device=device, batch=batch
            )
        )
        zones = find_lesions(seen, grid.voxel_mm, self.options)
        head = grid.back_nearest((normalised > 2 * FOREGROUND).astype(np.int32)) > 0
        probability = grid.back(seen)
        maps = self._maps(volume, grid, normalised, zones > 0, probability)
        return probability, grid.back_nearest(zones), head, maps, why_cut_off(normalised, grid.voxel_mm[0])

    def _maps(
        self,
        volume: Volume,
        grid: NetworkGrid,
        normalised: NDArray[np.float32],
        marked: NDArray[np.bool_],
        probability: NDArray[np.float32],
    ) -> tuple[Map, ...]:
        """Probability, saliency, and the probability's spread; none unless the options ask for them."""
        if not self.options.maps:
            return ()
        why = self._portions.run(
            lambda batch, device: saliency(self.network.to(device), normalised, marked, device=device, batch=batch)
        )
        unsure = self._portions.run(
            lambda batch, device: deviation(self.network.to(device), normalised, device=device, batch=batch)
        )
        return (
            Map(name=MAP, volume=volume.with_array(probability), quantity=codes.DCM.Probability),
            saliency_map(volume.with_array(grid.back(why))),
            spread_map(volume.with_array(grid.back(unsure))),
        )

    def _lesion(
        self, mask: NDArray[np.bool_], volume: Volume, probability: NDArray[np.float32], head: NDArray[np.bool_]
    ) -> Lesion:
        sides: dict[str | None, Code | None] = {"left": codes.SCT.Left, "right": codes.SCT.Right, None: None}
        segment = Segment(
            label="FLAIR abnormality",
            mask=volume.with_array(mask),
            category=codes.SCT.MorphologicallyAbnormalStructure,
            type=codes.SCT.Lesion,
        )
        side = side_of(mask, head, float(volume.spacing[2]))
        return Lesion(
            segment=segment,
            finding=ABNORMALITY,
            site=codes.SCT.Brain,
            laterality=sides[side],
            probability=float(probability[mask].mean()),
            evaluations={POSITION: _position(third_of(mask, head), midline=side is None)},
        )

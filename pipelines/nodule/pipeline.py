"""The nodule pipeline: from a series to findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

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
    joined,
    marked,
    sentence,
)
from pipelines.cut_off import cut_off
from pipelines.device import native_precision
from pipelines.explain import spread_map, spread_measurement
from pipelines.nodule.appearance import MALIGNANCY, POSITION, TEXTURE, malignancy, texture, third
from pipelines.nodule.candidates import spread_at
from pipelines.nodule.embedding import Embedder
from pipelines.nodule.lungs import LIMIT_CM2, Lungs, find_lungs
from pipelines.nodule.options import Options
from pipelines.nodule.search import Networks, Nodule, SearchResult, search
from pipelines.options import parameters_of
from pipelines.weights import load_weights

VERSION = "2.5.0"
WEIGHTS = Path(__file__).with_name("weights.safetensors")
COARSEST_MM = 8.1
"""Larger voxels than this along any axis: nothing was measured. Slices of 8 mm, and how their positions are rounded."""
THICK_MM = 5.5
"""From here on a third or more of the nodules of 6 to 10 mm are missed (MODEL_CARD.md, thicker slices)."""
HEAT = "Probability of nodule"
SCOPE = sentence(
    "Finds most nodules of 6 to 35 mm (44 of 55 planted ones in tests); smaller nodules and larger masses are often "
    "missed, consolidation and fluid are not assessed."
)
"""The figures of MODEL_CARD.md, all four series."""
CUT_OFF_LOWER = marked("The lungs are cut off at the lower end: the lowest image still shows {area} cm2.")
CUT_OFF_UPPER = marked("The lungs are cut off at the upper end: the highest image still shows {area} cm2.")
CUT_OFF_SIDES = marked("The field of view cuts the lungs: {area} cm2 of them lie on the edges of the images.")
LUNGS = {"left": marked("left lung"), "right": marked("right lung"), "": marked("lung, side uncertain")}
ZONES = {
    "Upper zone of lung": marked("upper zone of the {lung}"),
    "Middle zone of lung": marked("middle zone of the {lung}"),
    "Lower zone of lung": marked("lower zone of the {lung}"),
}


class NodulePipeline:
    """Finds and outlines lung nodules; see MODEL_CARD.md for what it was measured on."""

    def __init__(self, *, weights: Path | None, device: str, options: Options) -> None:
        stored = load_weights(weights or WEIGHTS)
        self.options = options
        self.networks = Networks.of(stored.tensors, weights or WEIGHTS, device)
        self._digest = stored.sha256
        self._embedder = Embedder(device)

    @property
    def algorithm(self) -> Algorithm:
        candidates, others = self.networks.portions.device, self.networks.device.partition(":")[0]
        return Algorithm(
            name="ainode nodule",
            version=VERSION,
            weights_sha256=self._digest,
            parameters=parameters_of(asdict(self.options))
            | {
                "precision": f"{native_precision(candidates)} (candidates), fp32 (the others)",
                "device": others if candidates == others else f"{candidates} (candidates), {others} (the others)",
            },
            scope=SCOPE,
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
        self.networks.portions.begin()
        volume = series.volume("HPL")
        spacing = tuple(float(s) for s in volume.spacing)
        if max(spacing) > COARSEST_MM:
            raise Unsuitable(
                sentence(
                    "Voxels of {voxel} mm are too coarse for nodules (limit {limit} mm).",
                    voxel=f"{max(spacing):.1f}",
                    limit=f"{COARSEST_MM}",
                )
            )
        lungs = find_lungs(volume.array, (spacing[0], spacing[1], spacing[2]))
        if lungs is None:
            raise Unsuitable(sentence("No aerated lung could be delimited in these images."))
        result = search(self.networks, volume.array, spacing, lungs, self.options.threshold)
        nodules = self.large_enough(result.nodules)
        shown = nodules[: self.options.max_findings]
        remarks: list[str] = []
        if spacing[0] > THICK_MM:
            step = f"{spacing[0]:.1f}"
            remarks.append(
                sentence(
                    "Slices lie {step} mm apart: in tests at least a third of the nodules of 6 to 10 mm and most "
                    "smaller ones were missed.",
                    step=step,
                )
            )
        elif spacing[0] > 3:
            step = f"{spacing[0]:.1f}"
            remarks.append(sentence("Slices lie {step} mm apart: small nodules may not be visible to it.", step=step))
        if len(nodules) > len(shown):
            remarks.append(
                sentence(
                    "{all} nodules were found; the {shown} most probable are reported.",
                    all=len(nodules),
                    shown=len(shown),
                )
            )
        embeddings = self._embedder.embed(volume.array, spacing, [n.outline for n in shown])
        judged = sorted(
            (
                (replace(_lesion(n, volume, lungs, opinion=self.options.malignancy), embedding=embedding), n)
                for n, embedding in zip(shown, embeddings, strict=True)
            ),
            key=lambda pair: pair[0].rank,
        )
        shown = [nodule for _, nodule in judged]
        lesions = tuple(_numbered(lesion, number) for number, (lesion, _) in enumerate(judged, 1))
        maps: tuple[Map, ...] = ()
        if self.options.maps:
            lesions, maps = self._explained(lesions, shown, result, volume)
        return Findings(
            lesions=lesions,
            maps=maps,
            remarks=tuple(remarks),
            looked_for=(codes.SCT.Nodule,),
            partial=joined(filter(None, (lungs.not_assessed, unexplained(lungs, volume.array.shape, shown))), " "),
            cut_off=where_cut_off(lungs),
            embedding_space=self._embedder.space,
        )

    def _explained(
        self, lesions: Sequence[Lesion], nodules: Sequence[Nodule], result: SearchResult, volume: Volume
    ) -> tuple[tuple[Lesion, ...], tuple[Map, ...]]:
        """The detector's own heat map, its spread round each nodule, and that spread as a measurement."""
        crop, networks = result.crop, self.networks
        around = np.zeros(crop.inside.shape, np.float32)
        measured = []
        for lesion, nodule in zip(lesions, nodules, strict=True):
            deviation, cells = spread_at(networks.candidate, crop, nodule.candidate.centre, networks.device)
            around[cells] = np.maximum(around[cells], deviation)
            at = tuple(int(i) for i in crop.cell_of(nodule.candidate.centre))
            spread = spread_measurement(float(around[at]))
            measured.append(replace(lesion, measurements=(*lesion.measurements, spread)))
        grid = volume.affine @ crop.cells_to_source()
        score = np.where(crop.inside, 1 / (1 + np.exp(-result.heat[0])), 0).astype(np.float32)
        frame = volume.frame_of_reference_uid
        return tuple(measured), (
            Map(name=HEAT, volume=Volume(score, grid, "PATIENT", frame), quantity=codes.DCM.Probability),
            spread_map(Volume(around, grid, "PATIENT", frame)),
        )

    def large_enough(self, nodules: Sequence[Nodule]) -> list[Nodule]:
        """Those of ``nodules`` that have the least diameter of the options."""
        return [n for n in nodules if n.outline.diameter_mm >= self.options.min_diameter_mm]


def where_cut_off(lungs: Lungs) -> str:
    """``Findings.cut_off``: at which ends, and whether at the sides."""
    areas = (lungs.lowest_cm2, lungs.highest_cm2, lungs.sides_cm2)
    return cut_off(LIMIT_CM2, zip((CUT_OFF_LOWER, CUT_OFF_UPPER, CUT_OFF_SIDES), areas, strict=True))


def unexplained(lungs: Lungs, shape: Sequence[int], nodules: Sequence[Nodule]) -> str:
    """Which large dense regions no nodule explains, in words for a radiologist; empty for none.

    A nodule explains a region when its centre lies there and it is at least half as wide: small ones lie in masses too.
    """
    per_cell = np.array(shape) / lungs.mask.shape
    centres = [
        (np.argwhere(n.outline.mask).mean(0) + [s.start for s in n.outline.box] + 0.5) / per_cell // 1 for n in nodules
    ]
    regions = [
        region
        for region in lungs.dense
        if not any(
            region.around(centre) and 2 * n.outline.diameter_mm >= region.diameter_mm
            for n, centre in zip(nodules, centres, strict=True)
        )
    ]
    if not regions:
        return ""
    places = []
    for region in regions:
        side = lungs.side(region.centre[2])
        zone = third(lungs, region.centre, lungs.mask.shape)
        lung = sentence(LUNGS[side])
        place = sentence(ZONES[zone.meaning], lung=lung) if zone else lung
        diameter = f"{region.diameter_mm:.0f}"
        places.append(sentence("{place}, at least {diameter} mm", place=place, diameter=diameter))
    return sentence(
        "A mass or consolidation that no reported nodule explains was not assessed: {places}.",
        places=joined(places, "; "),
    )


def _numbered(lesion: Lesion, number: int) -> Lesion:
    return replace(lesion, segment=replace(lesion.segment, label=f"Nodule {number}"))


def _lesion(nodule: Nodule, volume: Volume, lungs: Lungs, *, opinion: bool) -> Lesion:
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[nodule.outline.box] = nodule.outline.mask
    place = (np.argwhere(nodule.outline.mask) + [s.start for s in nodule.outline.box]).mean(0)
    judged: dict[Code, Code | None] = {TEXTURE: texture(volume.array, nodule.outline)}
    if opinion:
        judged[MALIGNANCY] = malignancy(nodule.verdict.malignancy)
    side = lungs.side((place[2] + 0.5) * lungs.mask.shape[2] / volume.array.shape[2] - 0.5)
    laterality = {"left": codes.SCT.Left, "right": codes.SCT.Right}.get(side)
    judged[POSITION] = third(lungs, place, volume.array.shape)
    segment = Segment(
        label="Nodule",
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
        evaluations={what: said for what, said in judged.items() if said is not None},
    )

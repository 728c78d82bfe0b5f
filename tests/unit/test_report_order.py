"""Findings are numbered, coloured and listed in one order, and told apart by everybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from analyses import ALGORITHM, analysis, box, one, segment, source_of
from dicom_files import ct_series
from highdicom.color import CIELabColor

from node.inference.handover import Handover, load, save
from node.inference.run_pipeline import analyse
from node.pipeline import Findings, Lesion, Needs, Series, codes
from node.results.encode import encode
from node.results.finding import place_findings
from node.results.gate.check import check
from node.results.key_image import draw_key_image
from node.results.segment_colours import colour_of

SIDES = {"a": 2, "b": 6, "c": 4, "d": 8}
"""Label -> rows and columns of a lesion."""
CERTAINTIES = {"a": 0.95, "b": 0.55, "c": 0.81, "d": None}


class Four:
    """Returns four lesions in no order."""

    algorithm = ALGORITHM
    needs = Needs(modalities=frozenset({"CT"}))

    def run(self, series: Series) -> Findings:
        grid = series.volume("HPL")
        lesions = []
        for place, (label, side) in enumerate(SIDES.items()):
            mask = box(grid, (1, 2 + 10 * (place // 2), 2 + 10 * (place % 2)), (3, 0, 0))
            mask.array[1:3, 2 + 10 * (place // 2) :, 2 + 10 * (place % 2) :] = 0
            mask.array[1:3, 2 + 10 * (place // 2) :, 2 + 10 * (place % 2) :][:, :side, :side] = 1
            lesions.append(
                Lesion(segment=segment(mask, label), finding=codes.SCT.Nodule, probability=CERTAINTIES[label])
            )
        return Findings(lesions=tuple(lesions))


@pytest.mark.thorough
def test_findings_are_ordered_by_size_within_their_class_of_certainty(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 32))
    _, _, findings = analyse(Four(), source)
    assert [lesion.segment.label for lesion in findings.lesions] == ["c", "a", "b", "d"]
    objects = encode(analysis(findings), source, ["seg", "sr", "pdf", "key images"])
    check(objects, source)
    assert [str(s.SegmentLabel) for s in one(objects, "seg").SegmentSequence] == ["c", "a", "b", "d"]


def test_every_finding_has_a_colour_of_its_own_the_same_in_seg_and_key_image(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 32))
    _, _, findings = analyse(Four(), source)
    placed = place_findings(findings, source, source.geometry, "key")
    assert len({finding.colour for finding in placed}) == 4
    seg = one(encode(analysis(findings), source, ["seg"]), "seg")
    for finding, described in zip(placed, seg.SegmentSequence, strict=True):
        shown = CIELabColor.from_dicom_value(described.RecommendedDisplayCIELabValue).to_rgb()
        assert shown == pytest.approx(finding.colour, abs=1)
        picture = np.asarray(draw_key_image(analysis(findings), source, finding, placed))
        assert (picture == finding.colour).all(axis=-1).sum() > 20


def test_a_colour_of_the_pipeline_is_kept_and_none_survives_the_handover(tmp_path: Path):
    source = source_of(tmp_path / "scan", ct_series(4, 32))
    _, _, findings = analyse(Four(), source)
    save(
        tmp_path / "job",
        Handover(
            findings=findings,
            algorithm=ALGORITHM,
            device="cpu",
            analysed_at=analysis(findings).analysed_at,
            timings={},
            peak_memory_mib={},
        ),
    )
    again = load(tmp_path / "job", 1 << 24).findings
    assert [lesion.segment.colour for lesion in again.lesions] == [None] * 4


def test_fifty_colours_are_fifty():
    lab = [CIELabColor.from_rgb(*colour_of(place)).value for place in range(28)]
    assert len({colour_of(place) for place in range(50)}) == 50
    assert len(set(lab)) == 28


def test_colours_are_encoded_as_the_standard_says():
    """PS3.3 C.10.7.1.1: L* of 0 to 100 as 0 to 65535, a* and b* of -128 to 127 likewise, 0 at 0x8080."""
    white, black = CIELabColor.from_rgb(255, 255, 255).value, CIELabColor.from_rgb(0, 0, 0).value
    assert white == pytest.approx((65535, 0x8080, 0x8080), abs=8)
    assert black == pytest.approx((0, 0x8080, 0x8080), abs=8)


def nearest(colours: list[tuple[int, int, int]], seen: np.ndarray) -> float:
    """Least distance, CIELab units, between any two of ``colours`` as ``seen``: a matrix on linear RGB."""
    linear = (np.array(colours) / 255.0) ** 2.2
    shown = np.clip(linear @ seen.T, 0, 1) ** (1 / 2.2) * 255
    lab = np.array([CIELabColor.from_rgb(*(int(v) for v in row)).value for row in shown], float)
    scaled = (lab - 32896) / (655.35, 257, 257)
    apart = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    return float(apart[~np.eye(len(colours), dtype=bool)].min())


@pytest.mark.parametrize(
    "seen",
    [
        np.eye(3),
        np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
        np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    ],
    ids=["all colours", "no red cones", "no green cones"],
)
def test_the_first_five_colours_are_told_apart_with_any_red_green_blindness(seen: np.ndarray):
    """Matrices of Machado, Oliveira and Fernandes (2009), severity 1: protanopia, deuteranopia."""
    assert nearest([colour_of(place) for place in range(5)], seen) > 12

"""Findings survive the file between the worker's child and the encoder, and a damaged file says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import Volume

from node.errors import InputError
from node.inference.handover import Handover, load, save
from node.pipeline import Algorithm, Assertion, Code, DerivedSeries, Findings, Lesion, Map, Measurement, Segment, codes

VOXELS = 5 * 7 * 6
AFFINE = np.array([[0.0, 0.0, 0.7, -1.0], [0.0, 0.7, 0.0, -2.0], [2.5, 0.0, 0.0, -3.0], [0.0, 0.0, 0.0, 1.0]])


def volume(array: np.ndarray[Any, Any]) -> Volume:
    return Volume(array, AFFINE, "PATIENT", frame_of_reference_uid="1.2.3")


def segment(label: str, mask: np.ndarray[Any, Any]) -> Segment:
    category = codes.SCT.MorphologicallyAbnormalStructure
    return Segment(label=label, mask=volume(mask), category=category, type=codes.SCT.Nodule, colour=(1, 2, 3))


def handover(findings: Findings, timings: Mapping[str, float] | None = None) -> Handover:
    return Handover(
        findings=findings,
        algorithm=Algorithm(name="A", version="1", weights_sha256="ab", parameters={"threshold": "0.5"}, scope="S."),
        device="cuda:0",
        analysed_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        timings=timings or {"run": 1.25},
        peak_memory_mib={"host": 900.5},
    )


def everything() -> Findings:
    masks = np.random.default_rng(1).integers(0, 2, (3, 5, 7, 6)).astype(bool)
    masks[1, :, :3] = False
    lesion = Lesion(
        segment=segment("Nodule 1", masks[1].astype(np.int16) * 9),
        finding=codes.SCT.Nodule,
        site=codes.SCT.Lung,
        laterality=codes.SCT.Left,
        measurements=(Measurement(name=codes.SCT.Diameter, value=np.float32(3.5), unit=codes.UCUM.Millimeter),),
        probability=np.float64(0.25),
        evaluations={Code("C41144", "NCIt", "Texture"): Code("RID50152", "RADLEX", "part-solid pulmonary nodule")},
    )
    derived = DerivedSeries(
        volume=volume(np.random.default_rng(2).normal(size=(5, 7, 6)).astype(np.float32)),
        description="Denoised",
        derivation=codes.DCM.PixelByPixelMultiplication,
    )
    return Findings(
        lesions=(lesion, Lesion(segment=segment("Nodule 2", masks[0]), finding=codes.SCT.Nodule)),
        segments=(
            segment("Nothing", np.zeros((5, 7, 6), np.uint8)),
            replace(segment("Kidney", masks[2]), laterality=codes.SCT.Right, measurements=lesion.measurements),
        ),
        derived=(derived,),
        remarks=("Motion; größer als üblich",),
        evaluations={codes.DCM.ImageQuality: codes.DCM.PoorImageQuality},
        partial="Schichten fehlen",
        cut_off="Die Lunge reicht bis zum letzten Bild.",
        looked_for=(codes.SCT.Nodule, codes.SCT.Hemorrhage),
        assertions=(
            Assertion(finding=codes.SCT.Hemorrhage, presence="absent", probability=np.float32(0.125)),
            Assertion(finding=codes.SCT.Edema, presence="indeterminate"),
        ),
        maps=(Map(name="Heat", volume=derived.volume, quantity=codes.DCM.Saliency),),
    )


def same_place(whole: Volume, cropped: Volume) -> bool:
    """Whether a mask that was cropped to what is not zero has the same voxels in the same places."""
    if not whole.array.any():
        return not cropped.array.any()
    again = cropped.match_geometry(whole.get_geometry())
    return bool(
        np.array_equal(whole.array != 0, again.array != 0)
        and cropped.array.sum() == np.count_nonzero(whole.array)
        and whole.frame_of_reference_uid == cropped.frame_of_reference_uid
    )


def test_everything_that_was_found_comes_back(tmp_path: Path) -> None:
    sent = handover(everything())
    save(tmp_path / "work" / "j", sent)
    got = load(tmp_path / "work" / "j", VOXELS)
    assert (got.algorithm, got.device, got.analysed_at) == (sent.algorithm, sent.device, sent.analysed_at)
    assert (got.timings, got.peak_memory_mib) == (sent.timings, sent.peak_memory_mib)
    for a, b in zip(sent.findings.all_segments, got.findings.all_segments, strict=True):
        assert same_place(a.mask, b.mask)
        assert (a.label, a.category, a.type, a.colour) == (b.label, b.category, b.type, b.colour)
        assert (a.laterality, a.measurements) == (b.laterality, b.measurements)
    for x, y in zip(sent.findings.lesions, got.findings.lesions, strict=True):
        assert (x.finding, x.site, x.laterality, x.measurements) == (y.finding, y.site, y.laterality, y.measurements)
        assert (x.probability, x.evaluations) == (y.probability, y.evaluations)
    [x_derived], [y_derived] = sent.findings.derived, got.findings.derived
    assert np.array_equal(x_derived.volume.array, y_derived.volume.array)
    assert y_derived.volume.array.dtype == np.float32
    assert (x_derived.description, x_derived.derivation) == (y_derived.description, y_derived.derivation)
    [x_map], [y_map] = sent.findings.maps, got.findings.maps
    assert np.array_equal(x_map.volume.array, y_map.volume.array)
    assert (x_map.name, x_map.quantity, x_map.unit) == (y_map.name, y_map.quantity, y_map.unit)
    assert (got.findings.remarks, got.findings.partial) == (sent.findings.remarks, sent.findings.partial)
    assert got.findings.evaluations == sent.findings.evaluations
    assert (got.findings.looked_for, got.findings.cut_off) == (sent.findings.looked_for, sent.findings.cut_off)
    assert got.findings.assertions == sent.findings.assertions


def test_masks_are_stored_cropped(tmp_path: Path) -> None:
    mask = np.zeros((200, 256, 256), np.uint8)
    mask[100:104, 20:30, 20:30] = 1
    save(tmp_path, handover(Findings(segments=(segment("Small", mask),))))
    assert (tmp_path / "findings.npz").stat().st_size < 10_000
    again = load(tmp_path, VOXELS).findings.segments[0].mask
    assert again.array.shape == (4, 10, 10)
    assert same_place(volume(mask), again)


def test_second_run_replaces_the_first_and_leaves_no_parts(tmp_path: Path) -> None:
    (tmp_path / "killed.part").write_bytes(b"half")
    save(tmp_path, handover(everything()))
    save(tmp_path, handover(Findings(), {"run": 2.0}))
    assert load(tmp_path, VOXELS).timings == {"run": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["findings.npz"]


@pytest.mark.parametrize("damage", ["missing", "cut", "no zip", "empty"])
def test_damaged_handover_is_refused_with_the_remedy(tmp_path: Path, damage: str) -> None:
    save(tmp_path, handover(everything()))
    file = tmp_path / "findings.npz"
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:-200], "no zip": b"x" * 500, "empty": b""}[damage])
    with pytest.raises(InputError, match="retry the job from infer") as caught:
        load(tmp_path, VOXELS)
    assert caught.value.permanent


def test_pickles_are_never_read(tmp_path: Path) -> None:
    with (tmp_path / "findings.npz").open("wb") as file:
        np.savez(file, document=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="no usable handover"):
        load(tmp_path, VOXELS)

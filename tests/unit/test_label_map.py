"""Label maps: one array for many segments means exactly what a mask for each of them means, in every object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analyses import MOMENT, analysis, source_of
from dicom_files import AXIAL, SAGITTAL, ct_series
from odd_series import flipped_columns, oblique, tilted, with_gap, with_repeat
from pydicom import FileDataset

from node.config import DEFAULT_OBJECTS
from node.inference.findings_document import read_findings, write_findings
from node.inference.handover import Handover, load, save
from node.pipeline import Algorithm, Code, Findings, Lesion, Segment, Volume, codes
from node.pipeline.label_map import boxes_of, label_array, own_masks, values_of
from node.results.encode import encode
from node.results.gate.check import check
from node.results.plausibility import plausible, unfit

LABELS = {"Liver": codes.SCT.Liver, "Spleen": codes.SCT.Spleen, "Aorta": codes.SCT.Aorta, "Lung": codes.SCT.Lung}
EVERY = (*DEFAULT_OBJECTS, "labelmap", "key images", "pdf", "presentation state", "rtstruct")


def blobs(shape: Sequence[int]) -> np.ndarray:
    """Three touching structures, 1, 2 and 300, and a fourth, 7, that is not seen."""
    labels = np.zeros(shape, np.uint16)
    a, b, c = (np.linspace(0, 1, n) for n in shape)
    at = np.stack(np.meshgrid(a, b, c, indexing="ij"), -1)
    for value, middle in ((1, (0.4, 0.3, 0.4)), (2, (0.6, 0.5, 0.5)), (300, (0.5, 0.7, 0.6))):
        labels[np.linalg.norm(at - middle, axis=-1) < 0.2] = value
    return labels


def both(labels: Volume) -> tuple[Findings, Findings]:
    """The same findings with a label map, and with a mask for each segment; the third is a lesion."""

    def findings(mask: Callable[[int], dict[str, object]]) -> Findings:
        entries = [
            Segment(label=label, category=codes.SCT.AnatomicalStructure, type=kind, **mask(value))  # type: ignore[arg-type]
            for (label, kind), value in zip(LABELS.items(), (1, 2, 300, 7), strict=True)
        ]
        lesion = Lesion(segment=entries[2], finding=codes.SCT.Aneurysm, site=codes.SCT.Aorta, probability=0.9)
        return Findings(lesions=(lesion,), segments=(*entries[:2], *entries[3:]))

    own = findings(lambda value: {"mask": labels.with_array((labels.array == value).astype(np.uint8))})
    return findings(lambda value: {"mask": labels, "value": value}), own


def with_coarser_grid(volume: Volume) -> Volume:
    affine = np.array(volume.affine)
    affine[:3, :3] *= 1.4
    affine[:3, 3] += 1.3
    return Volume(
        blobs([max(2, int(n / 1.4)) for n in volume.spatial_shape]),
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )


SERIES: dict[str, Callable[[], list[FileDataset]]] = {
    "axial": lambda: ct_series(12, 24),
    "sagittal": lambda: ct_series(12, 24, orientation=SAGITTAL),
    "mirrored": lambda: ct_series(12, 24, orientation=flipped_columns(AXIAL)),
    "oblique": lambda: ct_series(12, 24, orientation=oblique(20, -30)),
    "gantry": lambda: tilted(ct_series(12, 24), 0.8),
    "gap": lambda: with_gap(ct_series(14, 24)),
    "repeat": lambda: with_repeat(ct_series(12, 24)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("grid", ["HPL", "FAR", "cropped", "coarser"])
@pytest.mark.parametrize("name", SERIES)
def test_every_object_is_the_same_byte_for_byte(tmp_path: Path, name: str, grid: str) -> None:
    source = source_of(tmp_path, SERIES[name]())
    volume = source.volume(grid if grid in ("HPL", "FAR") else None)
    labels = volume.with_array(blobs(volume.spatial_shape))
    if grid == "cropped":
        labels = labels[1:, 2:-2, 3:]
    elif grid == "coarser":
        labels = with_coarser_grid(volume)
    mapped, other = (encode(analysis(findings), source, EVERY) for findings in both(labels))
    check(mapped, source)
    assert [o.kind for o in mapped] == [o.kind for o in other]
    assert {"seg", "labelmap", "sr", "rtstruct"} <= {o.kind for o in mapped}
    for ours, theirs in zip(mapped, other, strict=True):
        assert ours.data == theirs.data, ours.kind


def handed_over(findings: Findings, folder: Path) -> Findings:
    """What the stage encode reads of what the child returned."""
    algorithm = Algorithm(name="Organs", version="1")
    save(
        folder,
        Handover(
            findings=findings, algorithm=algorithm, device="cpu", analysed_at=MOMENT, timings={}, peak_memory_mib={}
        ),
    )
    return load(folder, 12 * 24 * 24).findings


@pytest.mark.thorough
def test_a_label_map_is_handed_over_once_and_means_the_same(tmp_path: Path) -> None:
    source = source_of(tmp_path / "in", ct_series(12, 24))
    volume = source.volume("HPL")
    labels = volume.with_array(blobs(volume.spatial_shape).astype(np.int64))
    mapped, own = both(labels)
    again = handed_over(mapped, tmp_path / "map")
    arrays = {id(segment.mask.array) for segment in again.all_segments if not segment.empty}
    assert len(arrays) == 1
    assert again.lesions[0].segment.mask.array.dtype == np.uint16
    objects = [
        encode(analysis(findings), source, EVERY) for findings in (again, own, handed_over(own, tmp_path / "own"))
    ]
    for first, second, third in zip(*objects, strict=True):
        assert first.data == second.data == third.data


def test_values_that_nobody_named_survive_no_narrower_type(tmp_path: Path) -> None:
    """261 in a byte would be 5, another structure."""
    labels = np.zeros((12, 24, 24), np.int32)
    labels[2:4, 2:4, 2:4], labels[6:8, 6:8, 6:8] = 5, 261
    volume = source_of(tmp_path / "in", ct_series(12, 24)).volume().with_array(labels)
    segment = Segment(label="Five", mask=volume, value=5, category=codes.SCT.AnatomicalStructure, type=codes.SCT.Liver)
    beside = replace(segment, label="None", value=261)
    (five, _) = handed_over(Findings(segments=(segment, beside)), tmp_path / "out").segments
    assert five.voxel_count == 8


def test_a_document_without_values_is_read(tmp_path: Path) -> None:
    volume = source_of(tmp_path, ct_series(12, 24)).volume()
    _, own = both(volume.with_array(blobs(volume.spatial_shape)))
    arrays: dict[str, np.ndarray] = {}
    document = write_findings(own, arrays)
    for segment in (*document["segments"], *(lesion["segment"] for lesion in document["lesions"])):
        del segment["value"]
    counts = [segment.voxel_count for segment in read_findings(document, arrays).all_segments]
    assert counts == [segment.voxel_count for segment in own.all_segments]


def test_plausibility_and_order_are_those_of_single_masks(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(12, 24))
    volume = source.volume()
    array = blobs(volume.spatial_shape)
    array[:9, array.shape[1] // 3 :] = 300
    mapped, own = both(volume.with_array(array))
    assert plausible(mapped, source).remarks == plausible(own, source).remarks != ()
    assert [lesion.rank for lesion in mapped.lesions] == [lesion.rank for lesion in own.lesions]
    assert unfit(mapped, source) == unfit(own, source) == ""
    mapped, own = both(volume.with_array(np.full_like(array, 300)))
    assert unfit(mapped, source) == unfit(own, source) != ""


def test_own_masks_lie_where_the_label_map_has_their_value(tmp_path: Path) -> None:
    volume = source_of(tmp_path, ct_series(12, 24)).volume()
    mapped, own = both(volume.with_array(blobs(volume.spatial_shape)))
    for cut, whole in zip(own_masks(mapped.all_segments), own.all_segments, strict=True):
        ours, theirs = (
            np.argwhere(mask.array) @ mask.affine[:3, :3].T + mask.affine[:3, 3] for mask in (cut, whole.mask)
        )
        np.testing.assert_allclose(ours, theirs)
    assert [box is None for box in boxes_of(mapped.all_segments)] == [False, False, False, True]
    assert [segment.empty for segment in mapped.all_segments] == [False, False, False, True]
    for ours, theirs in zip(mapped.all_segments, own.all_segments, strict=True):
        np.testing.assert_array_equal(ours.voxels, theirs.voxels)


@pytest.mark.parametrize(("value", "dtype"), [(0, np.uint8), (-1, np.int16), (70_000, np.int32), (1, np.bool_)])
def test_a_value_that_no_label_map_has_is_refused(value: int, dtype: type) -> None:
    mask = Volume(np.zeros((2, 2, 2), dtype), np.eye(4), coordinate_system="PATIENT")
    with pytest.raises(ValueError, match=r"Segment.value of 'Liver' is .*; use 1 to 65535 in a mask of integers"):
        Segment(label="Liver", mask=mask, value=value, category=Code("1", "99X", "a"), type=Code("2", "99X", "b"))


@pytest.mark.parametrize(
    ("values", "dtype"), [([0, 1.0, 254.9999], np.uint8), ([0, 256], np.uint16), ([False, True], np.uint8)]
)
def test_labels_take_the_fewest_bytes(values: list[float], dtype: type) -> None:
    labels = label_array(np.array(values)[:, None, None])
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels.ravel(), np.rint(np.array(values, float)))
    assert values_of(labels) == [round(value) for value in values if value]


@pytest.mark.parametrize("value", [-1.0, 65536, np.nan])
def test_numbers_that_are_no_labels_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="label map holds values from"):
        label_array(np.array([0.0, value])[:, None, None])

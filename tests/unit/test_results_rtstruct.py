"""Contours of a structure set enclose exactly the voxels of the mask, where another program finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import analysis, one, put, source_of, spoiled
from dicom_files import ct_series
from drawn_examples import examples
from enhanced_files import enhanced
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn
from matplotlib.path import Path as Polygon
from odd_series import oblique, tilted
from pydicom import Dataset, FileDataset

from node.errors import GateError
from node.pipeline import Findings, Segment, codes
from node.results.closed_contours import closed_contours
from node.results.encode import encode
from node.results.gate.check import check
from node.results.headers import by_frame, frame_key
from node.studies.source import SourceSeries


def filled(contours: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Which pixel centres each contour encloses, by a library that knows nothing of this project."""
    rows, columns = np.indices(shape)
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    inside = [Polygon(np.vstack([c, c[:1]])).contains_points(centres).reshape(shape) for c in contours]
    return np.array(inside, np.int64).reshape(-1, *shape)


@settings(max_examples=examples(200), deadline=None)
@given(drawn.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))), st.sampled_from([8, 12, 1500]))
def test_contours_enclose_each_pixel_of_the_mask_once(plane: np.ndarray, most: int):
    contours = list(closed_contours(plane, most))
    assert all(4 <= len(contour) <= most for contour in contours)
    assert np.array_equal(filled(contours, plane.shape).sum(axis=0), plane)


def test_holes_in_holes_are_joined_by_channels():
    plane = np.zeros((21, 21), np.bool_)
    for ring in range(5):
        plane[2 * ring : 21 - 2 * ring, 2 * ring : 21 - 2 * ring] = ring % 2 == 0
    plane[1, 2::2] = plane[1, 1] = False  # many on one row
    contours = list(closed_contours(plane, 1500))
    assert len(contours) == 3  # two rings and the middle: a hole is no contour of its own
    assert np.array_equal(filled(contours, plane.shape).sum(axis=0), plane)


SERIES: dict[str, Callable[[], list[FileDataset]]] = {
    "axial": lambda: ct_series(4, 24),
    "oblique": lambda: ct_series(4, 24, orientation=oblique(30.0, 20.0), spacing=(3.0, 0.8, 0.6)),
    "tilted gantry": lambda: tilted(ct_series(4, 24), 1.4),
    "multi-frame": lambda: enhanced(ct_series(4, 24)),
}


def structures(source: SourceSeries) -> Findings:
    """A ring, and noise; both on all images."""
    grid = source.volume("HPL")
    ring = np.zeros(grid.spatial_shape, np.uint8)
    ring[:, 4:18, 5:20] = 1
    ring[:, 8:12, 9:13] = 0
    noise = np.random.default_rng(3).random(grid.spatial_shape) < 0.4
    return Findings(
        segments=tuple(
            Segment(
                label=label,
                mask=grid.with_array(mask.astype(np.uint8)),
                category=codes.SCT.AnatomicalStructure,
                type=codes.SCT.Lung,
            )
            for label, mask in (("Ring", ring), ("Noise", noise))
        )
    )


def masks_of(structure_set: FileDataset, source: SourceSeries) -> dict[tuple[str, int | None, int], np.ndarray]:
    """Pixels of each image and region, from the contours alone and the header of the image that each names."""
    images = by_frame(source.datasets)
    outlines: dict[tuple[str, int | None, int], list[np.ndarray]] = {}
    for roi in structure_set.ROIContourSequence:
        for contour in roi.ContourSequence:
            key = frame_key(contour.ContourImageSequence[0])
            points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))
            outlines.setdefault((*key, int(roi.ReferencedROINumber)), []).append(in_pixels(points, images[key]))
    shape = (int(source.datasets[0].Rows), int(source.datasets[0].Columns))
    return {key: filled(contours, shape).sum(axis=0) for key, contours in outlines.items()}


def in_pixels(points: np.ndarray, image: Dataset) -> np.ndarray:
    cosines = np.asarray(image.ImageOrientationPatient, float)
    rows, columns = (float(v) for v in image.PixelSpacing)
    away = points - np.asarray(image.ImagePositionPatient, float)
    return np.column_stack([away @ cosines[:3] / columns, away @ cosines[3:] / rows])


@pytest.mark.parametrize("kind", SERIES)
def test_a_structure_set_shows_the_voxels_of_the_segmentation(tmp_path: Path, kind: str):
    source = source_of(tmp_path, SERIES[kind]())
    objects = encode(analysis(structures(source)), source, ["rtstruct", "seg"])
    check(objects, source)
    structure_set, seg = one(objects, "rtstruct"), one(objects, "seg")
    back = masks_of(structure_set, source)
    assert len(back) == len(seg.PerFrameFunctionalGroupsSequence)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        assert np.array_equal(back[*frame_key(image), number], pixels)


def test_what_a_region_is(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 24))
    (made,) = encode(analysis(structures(source)), source, ["rtstruct"])
    dataset = made.dataset
    assert [roi.ROIName for roi in dataset.StructureSetROISequence] == ["Ring", "Noise"]
    assert {item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence} == {"ORGAN"}
    assert dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0].CodeMeaning == "Lung"
    assert (dataset.ApprovalStatus, dataset.StructureSetDate) == ("UNAPPROVED", "20260304")
    assert "Research use only" in dataset.StructureSetDescription
    assert float(dataset.StructureSetROISequence[0].ROIVolume) == pytest.approx((14 * 15 - 16) * 4 * 2.5 * 0.49 / 1000)


def test_coordinates_of_a_large_structure_fit_into_an_element(tmp_path: Path):
    sponge = (np.random.default_rng(5).random((2, 120, 120)) < 0.7).astype(np.uint8)
    source = source_of(tmp_path, ct_series(2, 120, origin=(-2000.0, -2000.0, -2000.0)))
    grid = source.volume("HPL")
    whole = Segment(
        label="Sponge", mask=grid.with_array(sponge), category=codes.SCT.AnatomicalStructure, type=codes.SCT.Lung
    )
    objects = encode(analysis(Findings(segments=(whole,))), source, ["rtstruct"])
    check(objects, source)
    contours = one(objects, "rtstruct").ROIContourSequence[0].ContourSequence
    assert 1000 < max(int(contour.NumberOfContourPoints) for contour in contours) <= 1500


def first_contour(dataset: Dataset) -> Dataset:
    contour: Dataset = dataset.ROIContourSequence[0].ContourSequence[0]
    return contour


FAULTS: dict[str, tuple[Any, str]] = {
    "on another plane": (
        lambda d: setattr(first_contour(d), "ContourData", [v + 1 for v in first_contour(d).ContourData]),
        "does not lie on its image",
    ),
    "beyond the image": (
        lambda d: setattr(
            first_contour(d),
            "ContourData",
            [*first_contour(d).ContourData[:-3], 500, 500, first_contour(d).ContourData[2]],
        ),
        "leaves its image",
    ),
    "other numbers": (
        lambda d: setattr(d.ROIContourSequence[0], "ReferencedROINumber", 7),
        "does not name the regions",
    ),
    "open": (lambda d: setattr(first_contour(d), "ContourGeometricType", "OPEN_PLANAR"), "is not closed"),
    "of another study": (
        lambda d: setattr(
            d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0], "ReferencedSOPInstanceUID", "1.2.3"
        ),
        "refers to another study",
    ),
    "of other images": (
        lambda d: setattr(first_contour(d).ContourImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"),
        "neither source nor result",
    ),
    "another space": (put(FrameOfReferenceUID="1.2.3"), "FrameOfReferenceUID is not the source's"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_and_named(tmp_path: Path, fault: str):
    source = source_of(tmp_path, ct_series(4, 24))
    objects = encode(analysis(structures(source)), source, ["rtstruct"])
    change, said = FAULTS[fault]
    with pytest.raises(GateError, match=said):
        check(spoiled(objects, "rtstruct", change), source)

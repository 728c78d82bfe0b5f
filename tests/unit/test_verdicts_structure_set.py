"""Contours of other equipment on our series: the voxels that they enclose, and what they say of lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from analyses import source_of
from dicom_files import ct_series
from odd_series import oblique, tilted
from reader_edits import outlines, workstation_rtstruct
from reader_site import Site
from scipy.ndimage import binary_dilation

from node.errors import InputError
from node.feedback.structure_set_masks import roi_masks_on
from node.reasons import ReasonCode


def array_of(mask: object, shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, bool)
    for image, (row, column, pixels) in mask.parts.items():  # type: ignore[attr-defined]
        whole[image, row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
    return whole


def rings(shape: tuple[int, ...]) -> np.ndarray:
    """Two parts on each image; one has a hole, and in the hole another part."""
    mask = np.zeros(shape, bool)
    mask[1:3, 2:14, 2:15] = True
    mask[1:3, 4:12, 4:13] = False
    mask[1:3, 6:9, 7:10] = True
    mask[1:3, 17:20, 3:5] = True
    return mask


SERIES = {
    "axial": lambda: ct_series(4, 24),
    "oblique": lambda: ct_series(4, 24, orientation=oblique(30.0, 20.0), spacing=(3.0, 0.8, 0.6)),
    "tilted gantry": lambda: tilted(ct_series(4, 24), 1.4),
}


@pytest.mark.parametrize("kind", SERIES)
def test_contours_with_holes_and_several_parts_enclose_exactly_their_voxels(kind: str, tmp_path: Path):
    source = source_of(tmp_path, SERIES[kind]())
    mask = rings((4, 24, 24))
    dataset = workstation_rtstruct(source, {"A": outlines(mask)})
    read = roi_masks_on(dataset, source)
    assert np.array_equal(array_of(read.masks[1], mask.shape), mask)


@pytest.mark.thorough
def test_random_shapes_are_read_as_they_were_outlined(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 24))
    drawn = np.random.default_rng(22)
    for _ in range(25):
        mask = binary_dilation(drawn.random((4, 24, 24)) > 0.97, iterations=int(drawn.integers(1, 4)))
        read = roi_masks_on(workstation_rtstruct(source, {"A": outlines(mask)}), source)
        assert np.array_equal(array_of(read.masks[1], mask.shape), mask)


def test_voxels_on_a_contour_are_inside(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 24))
    through_centres = np.array([(5, 5), (12, 5), (12, 9), (5, 9)], float)
    read = roi_masks_on(workstation_rtstruct(source, {"A": [(2, through_centres)]}), source)
    expected = np.zeros((4, 24, 24), bool)
    expected[2, 5:10, 5:13] = True
    assert np.array_equal(array_of(read.masks[1], expected.shape), expected)


@pytest.mark.parametrize("spacing", [0.35, 0.78125, 0.9765625])
def test_voxels_on_a_contour_are_inside_with_coordinates_in_hundredths_of_a_millimetre(spacing: float, tmp_path: Path):
    """OHIF draws contours through the centres of the outermost voxels, and writes two decimals."""
    origin = (-192.199997, -200.003, -100.5)
    source = source_of(tmp_path, ct_series(4, 64, spacing=(2.5, spacing, spacing), origin=origin))
    diamond = [(30, 20), (40, 30), (40, 31), (31, 40), (30, 40), (20, 31), (20, 30), (29, 20)]
    contours = {"A": [(2, np.array(diamond, float))]}
    fine = roi_masks_on(workstation_rtstruct(source, contours, decimals=6), source)
    coarse = roi_masks_on(workstation_rtstruct(source, contours, decimals=2), source)
    assert coarse.masks[1].voxels > 200
    assert np.array_equal(array_of(coarse.masks[1], (4, 64, 64)), array_of(fine.masks[1], (4, 64, 64)))


def test_a_contour_between_the_images_is_not_guessed_at(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 24))
    square = np.array([(5, 5), (12, 5), (12, 9), (5, 9)], float)
    with pytest.raises(InputError, match="on none of the images"):
        roi_masks_on(workstation_rtstruct(source, {"A": [(1, square)]}, away_mm=1.0), source)


def parts_of(site: Site) -> dict[str, np.ndarray]:
    changed = site.masks["Nodule 1"].copy()
    changed[:, 10, :] = 0
    new = np.zeros_like(changed)
    new[0:3, 24:28, 24:29] = 1
    return {"kept": changed, "missed": new}


@pytest.mark.thorough
def test_a_structure_set_on_our_series_gives_verdicts(site: Site):
    masks = parts_of(site)
    dataset = workstation_rtstruct(site.source, {name: outlines(mask) for name, mask in masks.items()})
    verdicts = site.collect(dataset)
    assert {name: row.verdict for name, row in verdicts.items()} == {
        "Nodule 1": "edited",
        "Nodule 2": "rejected",
        "segment 2": "added",
    }
    ours, theirs = site.masks["Nodule 1"], masks["kept"]
    assert verdicts["Nodule 1"].dice == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))


def test_what_was_only_converted_is_accepted(site: Site):
    dataset = workstation_rtstruct(site.source, {name: outlines(mask) for name, mask in site.masks.items()})
    assert {name: row.verdict for name, row in site.collect(dataset).items()} == dict.fromkeys(site.masks, "accepted")


def test_an_organ_at_risk_is_no_missed_lesion(site: Site):
    masks = {**site.masks, "Lung": parts_of(site)["missed"]}
    dataset = workstation_rtstruct(site.source, {n: outlines(m) for n, m in masks.items()}, interpreted="ORGAN")
    assert set(site.collect(dataset)) == set(site.masks)


def test_contours_of_an_algorithm_are_no_verdict(site: Site):
    dataset = workstation_rtstruct(site.source, {n: outlines(m) for n, m in site.masks.items()}, algorithm="AUTOMATIC")
    assert site.refusal(dataset) == ReasonCode.OF_AN_ALGORITHM

"""Key images show each finding on its slice, in its place, with what is said of it, to any viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import NOTHING, analysis, box, one, put, segment, source_of, spoiled
from dicom_files import ct_series, mr_series
from PIL import ImageDraw
from pydicom import FileDataset

from node.errors import GateError
from node.pipeline import Findings, Lesion, Map, Volume, codes
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check
from node.results.key_image import COLUMN, EDGE, KEY_IMAGES, window_text
from node.results.mask_measurement import largest_section
from node.results.picture_text import typeface
from node.results.source_grid import place
from node.studies.source import SourceSeries
from node.wording import NOTICE

RED, GREEN = (255, 0, 0), (0, 255, 0)


def lesion(mask: Volume, label: str = "Nodule 1", colour: tuple[int, int, int] = RED) -> Lesion:
    outline = segment(mask, label)
    return Lesion(segment=type(outline)(**{**vars(outline), "colour": colour}), finding=codes.SCT.Nodule)


def key_images(source: SourceSeries, *lesions: Lesion, **changes: Any) -> tuple[EncodedObject, ...]:
    objects = encode(analysis(Findings(lesions=lesions), **changes), source, ["key images"])
    check(objects, source)
    return objects


def coloured(picture: FileDataset, colour: tuple[int, int, int]) -> np.ndarray:
    """(row, column) of the pixels of this colour on the slice, in parts of its size."""
    pixels = picture.pixel_array[:EDGE, :EDGE]
    return np.argwhere((pixels == colour).all(axis=-1)) / EDGE


@pytest.mark.parametrize("orientation", ["HPL", "FPL", "HAR", "AFL", "LFP", "RHA"])
def test_a_finding_is_drawn_where_it_lies_and_the_letters_say_where_that_is(tmp_path: Path, orientation: str):
    """Acquired in any direction: the first letter is that of the slices, then rows (down), columns (right)."""
    cosines = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
    right, down = cosines[orientation[2]], cosines[orientation[1]]
    source = source_of(tmp_path, ct_series(6, 40, orientation=[*right, *down]))
    grid = source.volume()
    (instance,) = key_images(source, lesion(box(grid, (4, 4, 28), (5, 12, 36))))
    image = instance.dataset
    assert list(image.PatientOrientation) == [orientation[2], orientation[1]]
    drawn = coloured(image, RED).mean(axis=0)
    assert drawn == pytest.approx([8 / 40, 32 / 40], abs=0.02)
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == source.datasets[4].SOPInstanceUID


def test_pixels_that_are_not_square_are_shown_in_true_proportions(tmp_path: Path):
    source = source_of(tmp_path, mr_series(4, 32, spacing=(3.0, 2.0, 1.0)))
    (instance,) = key_images(source, lesion(box(source.volume(), (1, 8, 8), (3, 24, 24))))
    drawn = coloured(instance.dataset, RED)
    height, width = np.ptp(drawn, axis=0)
    assert height / width == pytest.approx(2, rel=0.05)


def test_the_typeface_has_every_letter_that_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: set[str] = set()
    draw = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, at: Any, text: str, *others: Any, **more: Any) -> None:
        drawn.update(text)
        draw(self, at, text, *others, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    source = source_of(tmp_path, ct_series(4, 32))
    key_images(source, lesion(box(source.volume(), (1, 8, 8), (3, 11, 11))))  # less than a millilitre
    missing = bytes(typeface(15).getmask("\uffff"))
    assert [letter for letter in drawn if bytes(typeface(15).getmask(letter)) == missing] == []


@pytest.mark.parametrize(
    ("background", "stated", "grey"),
    [(-850, None, 0.27), (-850, (40, 400), 0.27), (40, None, 0.5), (40, (140, 400), 0.25)],
    ids=["lung", "lung, whatever is stated", "soft tissue", "as the source states"],
)
def test_the_window_shows_the_surroundings(
    tmp_path: Path, background: int, stated: tuple[float, float] | None, grey: float
):
    def change(dataset: FileDataset) -> None:
        del dataset.WindowCenter, dataset.WindowWidth
        if stated is not None:
            dataset.WindowCenter, dataset.WindowWidth = stated

    volume = np.full((3, 40, 40), background)
    volume[1, 10:14, 10:14] = 30
    source = source_of(tmp_path, ct_series(volume=volume), change)
    (instance,) = key_images(source, lesion(box(source.volume(), (1, 10, 10), (2, 14, 14))))
    assert instance.dataset.pixel_array[600, 600, 0] / 255 == pytest.approx(grey, abs=0.02)


def test_every_finding_on_the_slice_is_outlined_in_its_colour(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 40))
    grid = source.volume()
    first = lesion(box(grid, (1, 5, 5), (2, 15, 15)), "A", RED)
    second = lesion(box(grid, (1, 25, 25), (3, 30, 30)), "B", GREEN)
    images = [o.dataset for o in key_images(source, first, second)]
    assert [len(coloured(i, RED)) > 0 for i in images] == [True, True]
    assert [len(coloured(i, GREEN)) > 0 for i in images] == [True, True]
    assert [i.InstanceNumber for i in images] == [1, 2]
    assert len({i.SeriesInstanceUID for i in images}) == 1


@pytest.mark.thorough
def test_of_many_lesions_the_largest_are_drawn(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 64))
    grid = source.volume()
    lesions = [lesion(box(grid, (1, 4 * n, 4), (2, 4 * n + 2, 6 + n)), f"L{n}") for n in range(KEY_IMAGES + 3)]
    comments = [o.dataset.ImageComments for o in key_images(source, *lesions)]
    assert [c.split(".")[0] for c in comments] == [f"L{n}" for n in range(3, KEY_IMAGES + 3)]


def test_without_findings_there_is_no_key_image(tmp_path: Path):
    assert encode(analysis(NOTHING), source_of(tmp_path, ct_series(3, 16)), ["key images"]) == ()


def test_a_key_image_is_marked_as_what_it_is(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 40))
    objects = key_images(source, lesion(box(source.volume(), (1, 5, 5), (2, 15, 15))))
    image = one(objects, "key images")
    assert list(image.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert (image.BurnedInAnnotation, image.ConversionType) == ("YES", "WSD")
    assert NOTICE in image.ImageComments
    text = image.pixel_array[:, EDGE:]
    assert text.shape[1] == COLUMN
    assert (text == (255, 170, 90)).all(axis=-1).any(), "the notice is in the picture itself"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(PatientOrientation=["R", "P"]), "PatientOrientation"),
        (put(BurnedInAnnotation="NO"), "BurnedInAnnotation"),
        (lambda d: setattr(d, "PixelData", bytes(len(d.PixelData))), "blank"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "PixelData has"),
        (lambda d: d.__delattr__("SourceImageSequence"), "names no source image"),
        (put(PatientID="OTHER"), "PatientID is not the source's"),
    ],
)
def test_the_gate_refuses_a_key_image_that_could_mislead(tmp_path: Path, change: Any, said: str):
    source = source_of(tmp_path, ct_series(4, 40))
    objects = key_images(source, lesion(box(source.volume(), (1, 5, 5), (2, 15, 15))))
    with pytest.raises(GateError, match=said):
        check(spoiled(objects, "key images", change), source)


def test_axes_end_on_the_outline_and_are_perpendicular(tmp_path: Path):
    source = source_of(tmp_path, mr_series(3, 40, spacing=(3.0, 2.0, 1.0)))
    grid = source.volume()
    rows, columns = np.mgrid[:40, :40]
    mask = np.zeros(grid.spatial_shape, np.uint8)
    mask[1] = ((rows - 20) * 2) ** 2 / 20**2 + ((columns - 20) + (rows - 20)) ** 2 / 8**2 < 1
    section = largest_section(place(grid.with_array(mask), source.geometry, "x"), source.geometry)
    spacing = np.array([1.0, 2.0])
    long, short = ((axis[1] - axis[0]) * spacing for axis in (section.long_axis, section.short_axis))
    assert np.linalg.norm(long) == pytest.approx(section.long_axis_mm)
    assert np.linalg.norm(short) == pytest.approx(section.short_axis_mm)
    assert abs(long @ short) < 1e-6 * section.long_axis_mm * section.short_axis_mm
    for end in section.long_axis:
        assert np.linalg.norm(section.outline - end, axis=1).min() < 1e-6


def test_where_the_network_looked_is_coloured_beside_the_outline(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 64))
    mask = box(source.volume(), (1, 20, 20), (3, 30, 30))
    why = Map(name="Saliency", volume=mask.with_array(mask.array.astype(np.float32)), quantity=codes.DCM.Saliency)

    def picture(*maps: Map) -> np.ndarray:
        findings = Findings(lesions=(lesion(mask),), maps=maps)
        (made,) = encode(analysis(findings), source, ["key images"])
        return made.dataset.pixel_array.astype(int)

    plain, explained = picture(), picture(why)
    beside = explained[:, EDGE:]
    orange = (beside[..., 0] - beside[..., 1] > 40) & (beside[..., 1] - beside[..., 2] > 20)
    assert orange.sum() > 0.05 * COLUMN * COLUMN
    np.testing.assert_array_equal(explained[: plain.shape[0], :EDGE], plain[:, :EDGE])


@pytest.mark.parametrize(
    ("window", "text"),
    [((-500.0, 1500.0), "window 1500 / level -500"), ((0.00123, 0.00246), "window 0.00246 / level 0.00123")],
)
def test_a_narrow_window_is_stated_with_its_decimals(window: tuple[float, float], text: str) -> None:
    assert window_text(window) == text

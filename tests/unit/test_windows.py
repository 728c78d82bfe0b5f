"""Key images of MR show tissue and finding, whatever window the scanner has left in the header."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from analyses import source_of
from dicom_files import mr_series
from PIL import Image
from pydicom import Dataset

from node.results.rendering import LETTER, window_of
from node.web.slices import open_series, picture
from node.web.slices import window_of as dashboard_window

AIR, BRAIN, LESION, FAT = 5.0, 220.0, 470.0, 1500.0


def head() -> tuple[np.ndarray, np.ndarray]:
    """A brain in a ring of fat, and the mask of a lesion in it."""
    rows, columns = np.mgrid[:128, :128]
    away = np.hypot(rows - 64, columns - 64)
    values = np.where(away < 50, BRAIN, np.where(away < 57, FAT, AIR))
    mask = np.hypot(rows - 75, columns - 75) < 9
    values[mask] = LESION
    return values, mask


def grey(value: float, window: tuple[float, float]) -> float:
    return float(np.clip((value - window[0]) / window[1] + 0.5, 0, 1))


@pytest.mark.parametrize("stated", [None, (640.0, 1320.0), (50.0, 100.0), (-500.0, 10.0), (20000.0, 40000.0)])
def test_brain_is_grey_and_a_lesion_brighter_and_not_white(stated: tuple[float, float] | None):
    values, mask = head()
    image = Dataset()
    image.Modality = "MR"
    if stated:
        image.WindowCenter, image.WindowWidth = stated
    window = window_of(values, mask, image)
    assert 0.2 < grey(BRAIN, window) < 0.5
    assert grey(BRAIN, window) + 0.2 < grey(LESION, window) <= 1.0
    assert grey(LESION - 1, window) < 1.0
    assert grey(AIR, window) < 0.05


def test_a_window_of_the_image_that_shows_both_is_kept():
    values, mask = head()
    image = Dataset()
    image.Modality, image.WindowCenter, image.WindowWidth = "MR", 300.0, 600.0
    assert window_of(values, mask, image) == (300.0, 600.0)


def test_an_image_of_one_value_has_a_window():
    image = Dataset()
    image.Modality = "MR"
    _, width = window_of(np.full((8, 8), 3.0), np.zeros((8, 8), bool), image)
    assert width > 0


def test_the_dashboard_shows_brain_in_grey_and_where_right_and_left_are(tmp_path: Path):
    values, _ = head()
    shown = open_series(tuple(source_of(tmp_path, mr_series(5, volume=np.stack([values] * 5))).paths))
    window = dashboard_window(shown, "")
    assert 0.2 < grey(BRAIN, window) < 0.5
    made = np.asarray(Image.open(BytesIO(picture(shown, 2, window))).convert("RGB"), float)
    yellow = np.abs(made - LETTER).sum(axis=-1) < 60
    side = made.shape[1]
    for edge in (yellow[:, : side // 20], yellow[:, -side // 20 :], yellow[: side // 20], yellow[-side // 20 :]):
        assert edge.sum() > 10, "a letter at each edge"

"""The letters of pictures name where in the patient each edge lies, for any orientation and patient position."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom import Dataset

from node.results.picture_text import typeface
from node.results.rendering import LETTER, axis_of, draw_letters

SIZE = 96
C = 0.5**0.5
CASES = {  # Image Orientation (Patient): letters at left, right, top, bottom
    "axial, head first supine": ((1, 0, 0, 0, 1, 0), "RLAP"),
    "axial, head first prone": ((-1, 0, 0, 0, -1, 0), "LRPA"),
    "axial, feet first supine": ((-1, 0, 0, 0, 1, 0), "LRAP"),
    "axial, feet first prone": ((1, 0, 0, 0, -1, 0), "RLPA"),
    "axial, decubitus right": ((0, -1, 0, 1, 0, 0), "PARL"),
    "axial, decubitus left": ((0, 1, 0, -1, 0, 0), "APLR"),
    "coronal": ((1, 0, 0, 0, 0, -1), "RLHF"),
    "coronal, feet up": ((1, 0, 0, 0, 0, 1), "RLFH"),
    "sagittal": ((0, 1, 0, 0, 0, -1), "APHF"),
    "sagittal, feet up": ((0, 1, 0, 0, 0, 1), "APFH"),
    "oblique, 20 degrees about x": ((1, 0, 0, 0, 0.9397, -0.342), "RLAP"),
    "oblique, 70 degrees about x": ((1, 0, 0, 0, 0.342, -0.9397), "RLHF"),
    "double oblique": ((0.9, 0.3, -0.316, -0.35, 0.93, -0.113), "RLAP"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_edge_has_the_letter_of_its_side(name: str):
    orientation, (left, right, top, bottom) = CASES[name]
    header = Dataset()
    header.ImageOrientationPatient = list(orientation)
    drawn = Image.new("RGB", (SIZE, SIZE))
    draw_letters(drawn, axis_of(header, 0), axis_of(header, 1))
    edges = ((left, (6, SIZE // 2), "lm"), (right, (SIZE - 6, SIZE // 2), "rm"))
    edges += ((top, (SIZE // 2, 6), "ma"), (bottom, (SIZE // 2, SIZE - 6), "md"))
    for letter, at, anchor in edges:
        here = Image.new("RGB", (SIZE, SIZE))
        ImageDraw.Draw(here).text(
            at, letter, fill=LETTER, font=typeface(17), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0)
        )
        part = here.getbbox()
        assert part is not None
        assert np.array_equal(np.asarray(here.crop(part)), np.asarray(drawn.crop(part))), f"{letter} at {anchor}"

"""Key images of regions and measurements: one picture of each image that has any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset

from node.results.analysis import Analysis, Source
from node.results.finding import image_name
from node.results.graphics import Graphic
from node.results.key_image import EDGE, KEY_IMAGES, Picture, closing_lines, compose, window_text
from node.results.picture_text import caption, typeface
from node.results.placed_region import Floats
from node.results.rendering import FAINT, INK, Colour, directions_of, draw_letters, render, size_of, window_of
from node.studies.source_image import laterality_of, view_of
from node.translation import gettext

_TEXT = 15
_CROSS = 9
"""Half the width of the cross that marks a point, in pixels of the picture."""
_SLICES = ("CT", "MR", "PT")


def draw_region_images(analysis: Analysis, source: Source, graphics: Sequence[Graphic]) -> list[Picture]:
    """One picture of each image with graphics on it, those of the first graphics when there are many."""
    places = list(dict.fromkeys(graphic.place for graphic in graphics))[:KEY_IMAGES]
    return [
        Picture(
            place=place,
            name=f"region {number}",
            label=", ".join(dict.fromkeys(graphic.label for graphic in graphics if graphic.place == place)),
            drawing=_draw(analysis, source, place, graphics),
        )
        for number, place in enumerate(places, 1)
    ]


def _draw(analysis: Analysis, source: Source, place: int, graphics: Sequence[Graphic]) -> Image.Image:
    original = source.datasets[place]
    picture, shown_as = _image(source, place)
    scale = np.array(picture.size) / [int(original.Columns), int(original.Rows)]
    lines: list[tuple[str, Colour]] = []
    for number, graphic in enumerate((graphic for graphic in graphics if graphic.place == place), 1):
        _draw_graphic(picture, graphic, str(number), scale)
        if graphic.lines:
            lines.append((caption(f"{number}. {graphic.label_in_words}"), graphic.colour))
            lines += [(caption(line), INK) for line in graphic.lines]
    if (directions := directions_of(original)) is not None:
        draw_letters(picture, *directions)
    side_and_view = " ".join(filter(None, (laterality_of(original), view_of(original))))
    name = gettext(", ").join(filter(None, (f"{image_name(source, place)}", side_and_view, shown_as)))
    lines += [("", INK), (name, FAINT), *closing_lines(analysis)]
    return compose(picture, (), lines)


def _image(source: Source, place: int) -> tuple[Image.Image, str]:
    """The image in true proportions, and by which window it is shown; empty: as it states itself."""
    original = source.datasets[place]
    spacing = proportions_of(original)
    if source.modality in _SLICES:
        values = source.image(place)
        window = window_of(values, np.zeros(values.shape, np.bool_), original)
        return render(values, spacing, EDGE, window), window_text(window)
    rgb = source.picture(place)
    size = size_of(rgb.shape[:2], spacing, EDGE)
    return Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC), ""


def proportions_of(image: Dataset) -> tuple[float, float]:
    """Height and width of a pixel in any unit: by a spacing, else by Pixel Aspect Ratio, else square."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        stated = image.get(keyword)
        if stated is not None and not isinstance(stated, str) and len(stated) == 2:
            height, width = (float(value or 0) for value in stated)
            if height > 0 and width > 0:
                return height, width
    return 1.0, 1.0


def _draw_graphic(picture: Image.Image, graphic: Graphic, name: str, scale: Floats) -> None:
    """Draw one graphic with its name; ``scale``: pixels of the picture for one of the image, across and down."""
    draw = ImageDraw.Draw(picture)
    points = graphic.points * scale
    if len(points) == 1:
        (x, y), reach = points[0].tolist(), _CROSS
        draw.line([(x - reach, y), (x + reach, y)], fill=graphic.colour, width=2)
        draw.line([(x, y - reach), (x, y + reach)], fill=graphic.colour, width=2)
    else:
        draw.line([tuple(point) for point in points.tolist()], fill=graphic.colour, width=2)
    right, top = float(points[:, 0].max()) + 3, float(points[:, 1].min()) - 3
    at = (min(right, picture.width - 2.0 * _TEXT), max(top, 1.5 * _TEXT))
    draw.text(at, name, fill=graphic.colour, font=typeface(_TEXT), anchor="lb", stroke_width=2, stroke_fill=(0, 0, 0))

"""Tables, plots and rows of pictures of the PDF reports on acceptance tests and trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.platypus import Flowable, Image, Table

from node.results.pdf_file import pdf_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 42.0
_WIDTH = A4[0] - 2 * MARGIN
_GRID = [
    ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.grey),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]
_COLUMNS = 3
"""Pictures in a row."""
_INCHES = 2.5, 2.4
"""Width and height of a plot when it is drawn."""
_POINTS = 68.0
"""Of an inch on the page."""


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], shares: Sequence[float]) -> Table:
    """Return a table with ``titles`` above its columns; ``shares``: of the width of the page."""
    cells = [[pdf_text(title, 7, colors.grey) for title in titles]]
    cells += [[pdf_text(text, 7.5) for text in row] for row in rows]
    return Table(cells, [share * _WIDTH for share in shares], style=_GRID, repeatRows=1, hAlign="LEFT")


def plots(draw: Sequence[Callable[[Axes], None]]) -> Image:
    """Return plots in one row, each drawn by its function."""
    from matplotlib.figure import Figure

    inches = _INCHES[0] * len(draw)
    figure = Figure(figsize=(inches, _INCHES[1]), dpi=200, layout="constrained")
    for plot, axes in zip(draw, figure.subplots(1, len(draw), squeeze=False)[0], strict=True):
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
        plot(axes)
        axes.title.set_size(8)
        axes.xaxis.label.set_size(7)
        axes.yaxis.label.set_size(7)
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    width = min(inches * _POINTS, _WIDTH)
    return Image(file, width=width, height=width * _INCHES[1] / inches, hAlign="LEFT")


def draw_bland_altman(
    axes: Axes,
    volumes: Sequence[tuple[float, float]],
    difference: float | None,
    limits: tuple[float, float] | None,
    ylabel: str,
) -> None:
    """Draw the differences of pairs of volumes, mm3, (first - second) in per cent of their mean.

    ``difference``, ``limits``: mean and limits of agreement, in per cent; ``None``: of too few.
    """
    pairs = np.array(volumes)
    means = pairs.mean(axis=1)
    axes.semilogx(means, 100.0 * (pairs[:, 0] - pairs[:, 1]) / means, ".", markersize=3)
    if difference is not None and limits is not None:
        axes.axhline(difference, linewidth=0.8)
        for limit in limits:
            axes.axhline(limit, linewidth=0.8, linestyle="--")
    axes.set(title="Bland and Altman", xlabel="mean volume, mm³", ylabel=ylabel)


def picture_rows(pictures: Sequence[tuple[bytes | None, Sequence[str]]]) -> list[Flowable]:
    """Return rows of pictures (JPEG; ``None``: there is none), each with the lines of its caption."""
    width = _WIDTH / _COLUMNS - 8
    cells: list[list[Flowable]] = []
    for jpeg, lines in pictures:
        drawing = [] if jpeg is None else [Image(BytesIO(jpeg), width=width, height=width, kind="proportional")]
        cells.append([*drawing, *(pdf_text(line, 6.5) for line in lines)])
    top = [("VALIGN", (0, 0), (-1, -1), "TOP")]
    rows = [cells[at : at + _COLUMNS] for at in range(0, len(cells), _COLUMNS)]
    return [Table([row], [_WIDTH / _COLUMNS] * len(row), style=top, hAlign="LEFT") for row in rows]


def signatures(title: str) -> Table:
    """Return a box to sign in; ``title``: of the field for what was decided by whom."""
    cells = [[pdf_text(text, 8, colors.grey) for text in (title, "Date", "Signature")]]
    box = [("BOX", (0, 0), (-1, -1), 0.5, colors.grey), ("INNERGRID", (0, 0), (-1, -1), 0.25, colors.grey)]
    return Table(cells, [_WIDTH / 3] * 3, [34], style=box, hAlign="LEFT")

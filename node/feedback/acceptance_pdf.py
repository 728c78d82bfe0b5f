"""The report of an acceptance test as a PDF for the department, with plots and pictures of failed cases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.platypus import Flowable, Image, KeepTogether, Spacer, Table

from node import __version__
from node.feedback.acceptance_figures import AcceptanceCase, AcceptanceGroup
from node.feedback.acceptance_report import AcceptanceReport, as_text, in_words, size_text
from node.results import fonts
from node.results.pdf_file import pdf_file, pdf_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 42.0
_WIDTH = A4[0] - 2 * _MARGIN
_GRID = [
    ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.grey),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]
_LISTED = 60
"""Failed cases in the list."""
_COLUMNS = 3
"""Pictures in a row."""


def acceptance_pdf(report: AcceptanceReport, cases: Sequence[AcceptanceCase], *, name: str, at: datetime) -> bytes:
    """Return the report as a PDF file; the same arguments give the same bytes.

    ``name``: its id in the ledger; ``at``: when the test ended.
    """
    fonts.register()
    figures = report.figures
    story: list[Flowable] = [
        pdf_text(f"Acceptance test: {report.pipeline}", 16),
        pdf_text(f"Report {name}, {at:%Y-%m-%d %H:%M}, by {report.who}", 9, colors.grey),
        Spacer(0, 8),
        *(pdf_text(line, 9) for line in _head(report)),
        Spacer(0, 8),
    ]
    if figures.whole.lesions or figures.whole.false:
        story += [pdf_text("Lesions", 12), _groups((figures.whole, *figures.by_scanner)), Spacer(0, 6), _sizes(report)]
    if figures.structures:
        story += [pdf_text("Body structures", 12), _structures(report)]
    plots = _plots(report, cases)
    if plots is not None:
        story += [Spacer(0, 8), plots]
    story += [
        Spacer(0, 6),
        pdf_text(
            "Lesions are found when they overlap with a Dice of 0.1 or more, each once. Intervals (95 %) are the wider "
            "of a formula for independent lesions and a bootstrap of patients. Nothing is stated of fewer than 20.",
            7,
            colors.grey,
        ),
        Spacer(0, 8),
        *_failed(report, cases),
        Spacer(0, 10),
        _signatures(),
        Spacer(0, 4),
        pdf_text(f"ainode {__version__}. Data SHA-256 {report.data}.", 7, colors.grey),
    ]
    return pdf_file(story, title=f"Acceptance test: {report.pipeline}", margin=_MARGIN)


def _head(report: AcceptanceReport) -> list[str]:
    """The lines of the text before the figures."""
    return as_text(report).split("\n\n", maxsplit=1)[0].splitlines()


def _groups(groups: Sequence[AcceptanceGroup]) -> Table:
    header = ("Scanner", "Series", "Found", "Sensitivity", "False reports per series", "Dice", "Volume difference")
    rows = [[pdf_text(title, 7, colors.grey) for title in header]]
    for one in groups if len(groups) > 2 else groups[:1]:
        limits = one.limits_of_agreement
        agreement = "" if limits is None else f"; limits {limits[0]:+.0f} to {limits[1]:+.0f} %"
        texts = (
            one.name,
            str(one.series),
            f"{one.hits} of {one.lesions}",
            in_words(one.sensitivity, 100.0, "%"),
            in_words(one.false_per_series, 1.0, "", "series"),
            in_words(one.dice, 1.0, ""),
            in_words(one.volume_difference, 1.0, "%") + agreement,
        )
        rows.append([pdf_text(text, 7.5) for text in texts])
    return _table(rows, (0.17, 0.07, 0.1, 0.17, 0.17, 0.15, 0.17))


def _sizes(report: AcceptanceReport) -> Table:
    rows = [[pdf_text(title, 7, colors.grey) for title in ("Diameter", "Found", "Sensitivity", "Dice")]]
    for band in report.figures.by_size:
        texts = (
            size_text(band),
            f"{band.hits} of {band.lesions}",
            in_words(band.sensitivity, 100.0, "%"),
            in_words(band.dice, 1.0, ""),
        )
        rows.append([pdf_text(text, 7.5) for text in texts])
    return _table(rows, (0.25, 0.15, 0.3, 0.3))


def _structures(report: AcceptanceReport) -> Table:
    titles = ("Structure", "Series", "Median Dice", "Mean Dice", "Volume difference")
    rows = [[pdf_text(title, 7, colors.grey) for title in titles]]
    for one in report.figures.structures:
        texts = (
            one.label,
            str(one.series),
            f"{one.median_dice:.2f}",
            in_words(one.dice, 1.0, "", "series"),
            in_words(one.volume_difference, 1.0, "%", "series"),
        )
        rows.append([pdf_text(text, 7.5) for text in texts])
    return _table(rows, (0.25, 0.1, 0.15, 0.25, 0.25))


def _table(rows: list[list[Flowable]], shares: Sequence[float]) -> Table:
    table = Table(rows, colWidths=[share * _WIDTH for share in shares], style=_GRID, repeatRows=1)
    table.hAlign = "LEFT"
    return table


def _plots(report: AcceptanceReport, cases: Sequence[AcceptanceCase]) -> Image | None:
    """FROC curve, Bland-Altman plot and calibration, as far as there are figures for them."""
    from matplotlib.figure import Figure

    figures = report.figures
    drawn = [
        draw
        for draw, is_known in (
            (_froc, bool(figures.froc)),
            (_bland_altman, figures.whole.volume_difference is not None),
            (_calibration, figures.calibration is not None),
        )
        if is_known
    ]
    if not drawn:
        return None
    height = 2.4
    figure = Figure(figsize=(2.5 * len(drawn), height), dpi=200, layout="constrained")
    for draw, axes in zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True):
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, report, cases)
        axes.title.set_size(8)
        axes.xaxis.label.set_size(7)
        axes.yaxis.label.set_size(7)
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    width = min(2.5 * len(drawn) * 68.0, _WIDTH)
    image = Image(file, width=width, height=width * height / (2.5 * len(drawn)))
    image.hAlign = "LEFT"
    return image


def _froc(axes: Axes, report: AcceptanceReport, _cases: Sequence[AcceptanceCase]) -> None:
    points = report.figures.froc
    axes.step([one.false_per_series for one in points], [one.sensitivity for one in points], where="post")
    axes.plot(points[-1].false_per_series, points[-1].sensitivity, "o", markersize=4)
    axes.set(title="FROC", xlabel="false reports per series", ylabel="sensitivity", ylim=(0, 1.02))


def _bland_altman(axes: Axes, report: AcceptanceReport, cases: Sequence[AcceptanceCase]) -> None:
    pairs = np.array(
        [
            (lesion.reported_mm3, lesion.volume_mm3)
            for case in cases
            if case.comparison is not None
            for lesion in case.comparison.lesions
            if lesion.reported_mm3
        ]
    )
    means = pairs.mean(axis=1)
    axes.semilogx(means, 100.0 * (pairs[:, 0] - pairs[:, 1]) / means, ".", markersize=3)
    whole = report.figures.whole
    if whole.volume_difference is not None and whole.limits_of_agreement is not None:
        axes.axhline(whole.volume_difference.value, linewidth=0.8)
        for limit in whole.limits_of_agreement:
            axes.axhline(limit, linewidth=0.8, linestyle="--")
    axes.set(title="Bland and Altman", xlabel="mean volume, mm³", ylabel="analysis - truth, %")


def _calibration(axes: Axes, report: AcceptanceReport, _cases: Sequence[AcceptanceCase]) -> None:
    axes.plot((0, 1), (0, 1), linewidth=0.6, color="grey")
    bands = report.figures.calibration.bands if report.figures.calibration is not None else ()
    axes.plot([one.mean_certainty for one in bands], [one.true / one.lesions for one in bands], "o-", markersize=3)
    for one in bands:
        axes.annotate(str(one.lesions), (one.mean_certainty, one.true / one.lesions), fontsize=5, xytext=(2, 3),
                      textcoords="offset points")  # fmt: skip
    axes.set(title="Calibration", xlabel="certainty", ylabel="share that is there", xlim=(0, 1), ylim=(0, 1.02))


def _failed(report: AcceptanceReport, cases: Sequence[AcceptanceCase]) -> list[Flowable]:
    failed = report.figures.failed
    lines: list[Flowable] = [pdf_text(f"Failed cases: {len(failed)} of {report.figures.series} series", 12)]
    lines += [pdf_text(f"{one.series_instance_uid}: {one.what}", 7.5) for one in failed[:_LISTED]]
    if len(failed) > _LISTED:
        lines.append(pdf_text(f"and {len(failed) - _LISTED} more", 7.5))
    cells: list[list[Flowable]] = []
    for case in cases:
        for picture in case.comparison.pictures if case.comparison is not None else ():
            width = _WIDTH / _COLUMNS - 8
            drawing = Image(BytesIO(picture.jpeg), width=width, height=width, kind="proportional")
            cells.append([drawing, pdf_text(f"{picture.caption}, series ...{case.series_instance_uid[-16:]}", 6.5)])
    if cells:
        lines += [Spacer(0, 6), pdf_text("Green: truth. Red: analysis.", 8)]
        for at in range(0, len(cells), _COLUMNS):
            row: list[list[Flowable]] = cells[at : at + _COLUMNS]
            lines.append(KeepTogether([_picture_row(row)]))
    return lines


def _picture_row(row: list[list[Flowable]]) -> Table:
    table = Table([row], colWidths=[_WIDTH / _COLUMNS] * len(row), style=[("VALIGN", (0, 0), (-1, -1), "TOP")])
    table.hAlign = "LEFT"
    return table


def _signatures() -> Table:
    cells = [[pdf_text(title, 8, colors.grey) for title in ("Accepted / rejected by", "Date", "Signature")]]
    table = Table(
        cells,
        colWidths=[_WIDTH / 3] * 3,
        rowHeights=[34],
        style=[("BOX", (0, 0), (-1, -1), 0.5, colors.grey), ("INNERGRID", (0, 0), (-1, -1), 0.25, colors.grey)],
    )
    table.hAlign = "LEFT"
    return table

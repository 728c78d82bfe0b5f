"""The report of an acceptance test as a PDF for the department, with plots and pictures of failed cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from reportlab.lib import colors
from reportlab.platypus import Flowable, Image, Spacer, Table

from node import __version__
from node.feedback.acceptance_figures import AcceptanceCase, AcceptanceGroup, CertaintyBand, FrocPoint
from node.feedback.acceptance_report import AcceptanceReport, as_text, in_words, size_text
from node.feedback.report_layout import MARGIN, draw_bland_altman, picture_rows, plots, signatures, table
from node.results import fonts
from node.results.pdf_file import pdf_file, pdf_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LISTED = 60
"""Failed cases in the list."""


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
        signatures("Accepted / rejected by"),
        Spacer(0, 4),
        pdf_text(f"ainode {__version__}. Data SHA-256 {report.data}.", 7, colors.grey),
    ]
    return pdf_file(story, title=f"Acceptance test: {report.pipeline}", margin=MARGIN)


def _head(report: AcceptanceReport) -> list[str]:
    """The lines of the text before the figures."""
    return as_text(report).split("\n\n", maxsplit=1)[0].splitlines()


def _groups(groups: Sequence[AcceptanceGroup]) -> Table:
    rows = []
    for group in groups if len(groups) > 2 else groups[:1]:
        limits = group.limits_of_agreement
        agreement = "" if limits is None else f"; limits {limits[0]:+.0f} to {limits[1]:+.0f} %"
        rows.append(
            (
                group.name,
                str(group.series),
                f"{group.hits} of {group.lesions}",
                in_words(group.sensitivity, 100.0, "%"),
                in_words(group.false_per_series, 1.0, "", "series"),
                in_words(group.dice, 1.0, ""),
                in_words(group.volume_difference, 1.0, "%") + agreement,
            )
        )
    titles = ("Scanner", "Series", "Found", "Sensitivity", "False reports per series", "Dice", "Volume difference")
    return table(titles, rows, (0.17, 0.07, 0.1, 0.17, 0.17, 0.15, 0.17))


def _sizes(report: AcceptanceReport) -> Table:
    rows = [
        (
            size_text(band),
            f"{band.hits} of {band.lesions}",
            in_words(band.sensitivity, 100.0, "%"),
            in_words(band.dice, 1.0, ""),
        )
        for band in report.figures.by_size
    ]
    return table(("Diameter", "Found", "Sensitivity", "Dice"), rows, (0.25, 0.15, 0.3, 0.3))


def _structures(report: AcceptanceReport) -> Table:
    rows = [
        (
            structure.label,
            str(structure.series),
            f"{structure.median_dice:.2f}",
            in_words(structure.dice, 1.0, "", "series"),
            in_words(structure.volume_difference, 1.0, "%", "series"),
        )
        for structure in report.figures.structures
    ]
    titles = ("Structure", "Series", "Median Dice", "Mean Dice", "Volume difference")
    return table(titles, rows, (0.25, 0.1, 0.15, 0.25, 0.25))


def _plots(report: AcceptanceReport, cases: Sequence[AcceptanceCase]) -> Image | None:
    """FROC curve, Bland-Altman plot and calibration, as far as there are figures for them."""
    figures = report.figures
    drawn: list[Callable[[Axes], None]] = []
    if figures.froc:
        drawn.append(partial(_froc, points=figures.froc))
    if figures.whole.volume_difference is not None:
        drawn.append(partial(_bland_altman, whole=figures.whole, cases=cases))
    if figures.calibration is not None:
        drawn.append(partial(_calibration, bands=figures.calibration.bands))
    return plots(drawn) if drawn else None


def _froc(axes: Axes, points: Sequence[FrocPoint]) -> None:
    axes.step([point.false_per_series for point in points], [point.sensitivity for point in points], where="post")
    axes.plot(points[-1].false_per_series, points[-1].sensitivity, "o", markersize=4)
    axes.set(title="FROC", xlabel="false reports per series", ylabel="sensitivity", ylim=(0, 1.02))


def _bland_altman(axes: Axes, whole: AcceptanceGroup, cases: Sequence[AcceptanceCase]) -> None:
    volumes = [
        (lesion.reported_mm3, lesion.volume_mm3)
        for case in cases
        if case.comparison is not None
        for lesion in case.comparison.lesions
        if lesion.reported_mm3
    ]
    difference = None if whole.volume_difference is None else whole.volume_difference.value
    draw_bland_altman(axes, volumes, difference, whole.limits_of_agreement, "analysis - truth, %")


def _calibration(axes: Axes, bands: Sequence[CertaintyBand]) -> None:
    axes.plot((0, 1), (0, 1), linewidth=0.6, color="grey")
    axes.plot([band.mean_certainty for band in bands], [band.true / band.lesions for band in bands], "o-", markersize=3)
    for band in bands:
        axes.annotate(str(band.lesions), (band.mean_certainty, band.true / band.lesions), fontsize=5, xytext=(2, 3),
                      textcoords="offset points")  # fmt: skip
    axes.set(title="Calibration", xlabel="certainty", ylabel="share that is there", xlim=(0, 1), ylim=(0, 1.02))


def _failed(report: AcceptanceReport, cases: Sequence[AcceptanceCase]) -> list[Flowable]:
    failed = report.figures.failed
    lines: list[Flowable] = [pdf_text(f"Failed cases: {len(failed)} of {report.figures.series} series", 12)]
    lines += [pdf_text(f"{case.series_instance_uid}: {case.what}", 7.5) for case in failed[:_LISTED]]
    if len(failed) > _LISTED:
        lines.append(pdf_text(f"and {len(failed) - _LISTED} more", 7.5))
    pictures = [
        (picture.jpeg, [f"{picture.caption}, series ...{case.series_instance_uid[-16:]}"])
        for case in cases
        if case.comparison is not None
        for picture in case.comparison.pictures
    ]
    if pictures:
        lines += [Spacer(0, 6), pdf_text("Green: truth. Red: analysis.", 8), *picture_rows(pictures)]
    return lines

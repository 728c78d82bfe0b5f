"""What readers' verdicts say of pipelines as a PDF for the department: one page for each pipeline, with its months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.platypus import Flowable, PageBreak, Spacer, Table

from node import __version__
from node.feedback.quality import LEAST, Quality
from node.feedback.quality_report import VerdictCounts, estimates, month_starts, written
from node.results import fonts
from node.results.pdf_file import pdf_file, pdf_text

MONTHS_OF_MAIL = 3
_MARGIN = 36.0
_SHARES = (0.08, 0.15, 0.07, 0.1, 0.12, 0.12, 0.12, 0.12, 0.12)
_STYLE = [
    ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.grey),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]


def quality_pdf(rows: Sequence[Quality], at: datetime) -> bytes:
    """Return the rows as a PDF file; the same arguments give the same bytes. ``at``: local time."""
    fonts.register()
    story: list[Flowable] = []
    for pipeline in dict.fromkeys(row.pipeline for row in rows):
        story += [PageBreak()] if story else []
        story += [
            pdf_text(f"Readers' verdicts on {pipeline}", 16),
            pdf_text(f"{at:%Y-%m-%d %H:%M}, ainode {__version__}", 8, colors.grey),
            Spacer(0, 8),
            _table([row for row in rows if row.pipeline == pipeline]),
            Spacer(0, 6),
            pdf_text(
                f"Numbers in brackets are 95 % intervals; none is given for fewer than {LEAST} verdicts. Readers "
                "choose what they judge: the numbers describe the results that were judged. Silence is no approval.",
                7,
                colors.grey,
            ),
        ]
    story = story or [pdf_text("No analysis that readers could judge.", 12)]
    return pdf_file(story, title="Readers' verdicts", margin=_MARGIN, pagesize=landscape(A4))


def monthly_quality_pdf(engine: sa.Engine, month: str, at: datetime) -> bytes:
    """Return the PDF of a month (``2026-10``, UTC) and of the two before it, because verdicts may come late.

    ``at``: local time, within the month after it.
    """
    year, number = map(int, month.split("-"))
    _, shown = month_starts(datetime(year, number, 1, tzinfo=UTC).timestamp(), MONTHS_OF_MAIL)
    rows = VerdictCounts.read(engine, MONTHS_OF_MAIL + 2).rows()
    return quality_pdf([row for row in rows if row.month in shown], at)


def _table(rows: Sequence[Quality]) -> Table:
    titles = ("Month", "Scanner", "Version", "Judged", *(what for what, *_ in estimates(rows[0])))
    cells = [[pdf_text(title, 7, colors.grey) for title in titles]]
    for row in rows:
        lesions = f"{row.accepted} accepted, {row.edited} edited, {row.rejected} rejected, {row.added} added"
        texts = (
            row.month,
            row.scanner or "all or not named",
            row.version or "all",
            f"{row.judged} of {row.analyses} analyses; {lesions}",
            *(written(value, scale, unit) for _, value, scale, unit in estimates(row)),
        )
        cells.append([pdf_text(text, 7) for text in texts])
    width = landscape(A4)[0] - 2 * _MARGIN
    table = Table(cells, colWidths=[share * width for share in _SHARES], style=_STYLE, repeatRows=1)
    table.hAlign = "LEFT"
    return table

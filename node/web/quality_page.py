"""The page with what readers say about each pipeline."""

from __future__ import annotations

from itertools import groupby

from starlette.responses import Response

from node.feedback.quality import LEAST, Estimate, Quality
from node.feedback.quality_report import MONTHS, VerdictCounts, written
from node.translation import decimal, gettext, marked
from node.web import charts
from node.web.app_context import AppContext
from node.web.auth import UserRequest


def quality(context: AppContext, user_request: UserRequest) -> Response:
    """Charts by month, and a table by version, scanner and month, of each pipeline."""
    counts = VerdictCounts.read(context.engine)
    by_month = {name: list(rows) for name, rows in groupby(counts.rows(("month",)), _pipeline)}
    pipelines = []
    for name, rows in groupby(counts.rows(), _pipeline):
        months = by_month[name][::-1]
        drawn = [
            (
                gettext(title),
                charts.intervals(
                    [(row.month, _bounds(getattr(row, key), scale)) for row in months], scale, unit, gettext(title)
                ),
            )
            for title, key, scale, unit in _DRAWN
        ]
        pipelines.append({"name": name, "charts": drawn, "rows": [_cells(row) for row in rows]})
    return context.page("quality.html", user_request, pipelines=pipelines, months=MONTHS, least=LEAST)


_DRAWN = (
    (marked("Positive predictive value"), "ppv", 100.0, "%"),
    (marked("Sensitivity against readers"), "sensitivity", 100.0, "%"),
    (marked("Dice of edited lesions"), "dice", 1.0, ""),
    (marked("Analyses with a verdict"), "share_judged", 100.0, "%"),
)


def _pipeline(row: Quality) -> str:
    return row.pipeline


def _bounds(of: Estimate | None, scale: float) -> tuple[float, float, float] | None:
    return None if of is None else (of.value * scale, of.low * scale, of.high * scale)


def _cells(row: Quality) -> dict[str, str]:
    """Heading -> text."""
    lesions = gettext(
        "{accepted} accepted, {edited} edited, {rejected} rejected, {added} added",
        **{name: getattr(row, name) for name in ("accepted", "edited", "rejected", "added")},
    )
    return {
        gettext("Month"): row.month,
        gettext("Version"): row.version or gettext("not known"),
        gettext("Scanner"): row.scanner or gettext("not named"),
        gettext("With a verdict"): gettext("{judged} of {analyses}", judged=row.judged, analyses=row.analyses),
        gettext("Lesions"): lesions,
        gettext("Positive predictive value"): _cell(row.ppv, 100.0, "%"),
        gettext("False reports per analysis"): _cell(row.false_per_analysis, 1.0, ""),
        gettext("Sensitivity"): _cell(row.sensitivity, 100.0, "%"),
        gettext("Dice of edits"): _cell(row.dice, 1.0, ""),
        gettext("Volume difference"): _cell(row.volume_difference, 1.0, "%"),
    }


def _cell(of: Estimate | None, scale: float, unit: str) -> str:
    return gettext("too few") if of is None else decimal(written(of, scale, unit))

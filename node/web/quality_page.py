"""The page with what readers say about each pipeline."""

from __future__ import annotations

from itertools import groupby

from starlette.responses import Response

from node.feedback.quality import LEAST, Estimate, Quality
from node.feedback.quality_report import MONTHS, VerdictCounts, written
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
                title,
                charts.intervals(
                    [(row.month, _bounds(getattr(row, key), scale)) for row in months], scale, unit, title
                ),
            )
            for title, key, scale, unit in _DRAWN
        ]
        pipelines.append({"name": name, "charts": drawn, "rows": [_cells(row) for row in rows]})
    return context.page("quality.html", user_request, pipelines=pipelines, months=MONTHS, least=LEAST)


_DRAWN = (
    ("Positive predictive value", "ppv", 100.0, "%"),
    ("Sensitivity against readers", "sensitivity", 100.0, "%"),
    ("Dice of edited lesions", "dice", 1.0, ""),
    ("Analyses with a verdict", "share_judged", 100.0, "%"),
)


def _pipeline(row: Quality) -> str:
    return row.pipeline


def _bounds(of: Estimate | None, scale: float) -> tuple[float, float, float] | None:
    return None if of is None else (of.value * scale, of.low * scale, of.high * scale)


def _cells(row: Quality) -> dict[str, str]:
    """Heading -> text."""
    lesions = f"{row.accepted} accepted, {row.edited} edited, {row.rejected} rejected, {row.added} added"
    return {
        "Month": row.month,
        "Version": row.version or "not known",
        "Scanner": row.scanner or "not named",
        "With a verdict": f"{row.judged} of {row.analyses}",
        "Lesions": lesions,
        "Positive predictive value": _cell(row.ppv, 100.0, "%"),
        "False reports per analysis": _cell(row.false_per_analysis, 1.0, ""),
        "Sensitivity": _cell(row.sensitivity, 100.0, "%"),
        "Dice of edits": _cell(row.dice, 1.0, ""),
        "Volume difference": _cell(row.volume_difference, 1.0, "%"),
    }


def _cell(of: Estimate | None, scale: float, unit: str) -> str:
    return "too few" if of is None else written(of, scale, unit)

"""The quality of pipelines as a table, as text and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import sqlalchemy as sa

from node.feedback.quality import LEAST, REPORTED, Estimate, Quality, merged, quality
from node.ledger.clock import ledger_clock
from node.ledger.engine import snapshot
from node.ledger.verdict_counts import AnalysisGroup, CountedVerdict, analyses_by_group, counted_verdicts

MONTHS = 12
"""How far back the table goes, with the present month."""
BY = ("version", "scanner", "month")
"""What a row may be one of, beside the pipeline."""


@dataclass(frozen=True, kw_only=True)
class VerdictCounts:
    """What the ledger has of the latest months (UTC)."""

    analyses: Mapping[AnalysisGroup, int]
    verdicts: Mapping[AnalysisGroup, Sequence[CountedVerdict]]
    months: Sequence[str]

    @classmethod
    def read(cls, engine: sa.Engine, months: int = MONTHS) -> VerdictCounts:
        """Read the latest ``months`` with the present one."""
        with snapshot(engine) as connection:
            starts, names = month_starts(ledger_clock(connection), months)
            analyses = analyses_by_group(connection, starts, REPORTED)
            return cls(analyses=analyses, verdicts=counted_verdicts(connection, starts), months=names)

    def rows(self, by: Sequence[str] = BY) -> list[Quality]:
        """One row for each pipeline and each of ``by``."""
        counted = merged(self.analyses, self.verdicts, by)
        return quality(*counted, self.months if "month" in by else [f"{self.months[0]} to {self.months[-1]}"])


def month_starts(at: float, months: int) -> tuple[list[float], list[str]]:
    """Begin and name of the latest months, the earliest first."""
    now = datetime.fromtimestamp(at, UTC)
    count = now.year * 12 + now.month - 1
    days = [datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in range(count - months + 1, count + 1)]
    return [day.timestamp() for day in days], [f"{day:%Y-%m}" for day in days]


def as_text(rows: Sequence[Quality]) -> str:
    """Return the rows for a terminal."""
    if not rows:
        return "No analysis that readers could judge."
    lines = []
    for row in rows:
        name = " ".join(filter(None, (row.pipeline, row.version)))
        lines.append(f"{name}, {row.scanner or 'all scanners or not named'}, {row.month}")
        lines.append(
            f"  {row.judged} of {row.analyses} analyses with a verdict{_in_words(row.share_judged, 100, '%', ' = ')}"
        )
        lines.append(
            f"  lesions: {row.accepted} accepted, {row.edited} edited, {row.rejected} rejected, {row.added} added"
        )
        lines += [f"  {what}: {_in_words(value, scale, unit)}" for what, value, scale, unit in estimates(row)]
        if row.limits_of_agreement:
            low, high = row.limits_of_agreement
            lines.append(f"  limits of agreement of volumes: {low:+.1f} to {high:+.1f} %")
    lines.append(f"Numbers in brackets are 95 % intervals; none is given for fewer than {LEAST} verdicts.")
    return "\n".join(lines)


def estimates(row: Quality) -> list[tuple[str, Estimate | None, float, str]]:
    """Name, estimate, factor and unit of what a row says of lesions."""
    return [
        ("positive predictive value", row.ppv, 100.0, "%"),
        ("false reports per analysis", row.false_per_analysis, 1.0, ""),
        ("sensitivity against readers", row.sensitivity, 100.0, "%"),
        ("mean Dice of edited lesions", row.dice, 1.0, ""),
        ("mean volume difference, node - reader", row.volume_difference, 1.0, "%"),
    ]


def _in_words(of: Estimate | None, scale: float, unit: str, before: str = "") -> str:
    return "" if of is None and before else before + written(of, scale, unit)


def written(of: Estimate | None, scale: float, unit: str) -> str:
    """Return an estimate with its interval, or that there are too few verdicts for one."""
    if of is None:
        return f"too few verdicts (under {LEAST})"
    digits = 1 if unit else 2
    value, low, high = (f"{number * scale:.{digits}f}" for number in (of.value, of.low, of.high))
    return f"{value}{' ' + unit if unit else ''} [{low} to {high}], n = {of.of}"


def as_csv(rows: Sequence[Quality]) -> str:
    """Return the rows as CSV, an estimate as four columns; empty where there is none."""
    out = StringIO()
    writer = csv.DictWriter(out, _columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(asdict(row)) for row in rows)
    return out.getvalue()


_ESTIMATES = tuple(field.name for field in fields(Quality) if field.type == "Estimate | None")


def _columns() -> list[str]:
    columns: list[str] = []
    for field in fields(Quality):
        if field.name in _ESTIMATES:
            columns += [field.name, *(f"{field.name}_{part}" for part in ("low", "high", "n"))]
        elif field.name == "limits_of_agreement":
            columns += [f"{field.name}_low", f"{field.name}_high"]
        else:
            columns.append(field.name)
    return columns


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in _ESTIMATES:
            part = value or {}
            flat |= {name: part.get("value"), f"{name}_low": part.get("low"), f"{name}_high": part.get("high")}
            flat[f"{name}_n"] = part.get("of")
        elif name == "limits_of_agreement":
            flat |= {f"{name}_low": value and value[0], f"{name}_high": value and value[1]}
        else:
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value

"""What becomes of public test files: a table for docs/results.md. ``AINODE_DATA=... python tests/support/zoo.py``."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from node.errors import NodeError
from node.pipeline import Algorithm, DerivedSeries, Findings, Segment, Unsuitable, Volume, codes
from node.results.analysis import Analysis, Source, of_part, outcome_of
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.source import SourceSeries

ALGORITHM = Algorithm(name="Threshold", version="1")


def files() -> list[Path]:
    """The public test files below ``AINODE_DATA``; none when it is not set."""
    folder = os.environ.get("AINODE_DATA")
    return sorted(p for p in (Path(folder) / "zoo").iterdir() if p.suffix != ".md") if folder else []


def outcome(path: Path) -> str:
    """The kinds of objects that a threshold and a copy of a file become, or why there are none.

    Raises ``GateError`` and ``EncodeError``: neither may happen.
    """
    try:
        source = SourceSeries.read([path])
    except NodeError as error:
        return f"not accepted: {_short(error)}"
    try:
        volume = source.volume("HPL")
    except Unsuitable as reason:
        return f"not applicable: {reason} -> {_kinds(source, 'not applicable', str(reason), None)}"
    except NodeError as error:
        return f"failed: {_short(error)} -> {_kinds(source, 'failed', _short(error), None)}"
    findings = of_part(found_in(volume, source.modality), source.left_out)
    return f"analysed -> {_kinds(source, outcome_of(findings), findings.partial, findings)}"


def found_in(volume: Volume, modality: str) -> Findings:
    """A threshold, and of CT and MR a copy."""
    mask = volume.with_array((volume.array >= np.median(volume.array)).astype(np.uint8))
    segment = Segment(label="Upper half", mask=mask, category=codes.SCT.Tissue, type=codes.SCT.Tissue)
    copy = DerivedSeries(volume=volume, description="Copy", derivation=codes.DCM.Smoothing)
    return Findings(segments=(segment,), derived=(copy,) if modality in ("CT", "MR") else ())


def _kinds(source: Source, word: str, reason: str, findings: Findings | None) -> str:
    analysis = Analysis(
        pipeline="zoo",
        algorithm=ALGORITHM,
        generation=1,
        outcome=word,  # type: ignore[arg-type]
        reason=reason,
        findings=findings,
        analysed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    objects = encode(analysis, source)
    check(objects, source)
    return ", ".join(sorted({o.kind.upper() if len(o.kind) < 4 else o.kind for o in objects}))


def _short(error: Exception) -> str:
    text = str(error).partition(" (")[0].partition(";")[0].rpartition(": ")[2]
    return " ".join("..." if "." in word and len(word) > 20 else word for word in text.split())


def table() -> str:
    """Markdown."""
    return "\n".join(["| file | outcome |", "|---|---|", *map(row, files())])


def row(path: Path) -> str:
    """One line of the table."""
    return f"| {path.name} | {outcome(path)} |"


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")

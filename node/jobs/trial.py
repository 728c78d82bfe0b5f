"""Try a pipeline on a folder of DICOM files: no network, no ledger, in this process. For authors of pipelines."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from node.config import DEFAULT_OBJECTS, PipelineTable
from node.errors import EncodeError
from node.jobs.analyse import analyse
from node.jobs.load import load_pipeline
from node.pipeline import Findings, Pipeline, Unsuitable
from node.results import Analysis, EncodedObject, Outcome, check, encode
from node.studies.folder import Progress, series_below
from node.studies.source import SourceSeries


@dataclass(frozen=True, kw_only=True)
class SeriesTrial:
    """What came of one series."""

    series_instance_uid: str
    modality: str
    description: str
    """Series Description (0008,103E)."""
    images: int
    outcome: Outcome
    reason: str
    """Why it is partial or not applicable."""
    fault: str
    """Why a node would not send the result; empty when it passed the gate."""
    lesions: int
    segments: tuple[str, ...]
    """Labels."""
    derived: tuple[str, ...]
    """Descriptions."""
    remarks: tuple[str, ...]
    seconds: float
    """Of the run."""
    files: tuple[Path, ...]
    """DICOM objects that were written."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of a folder."""

    pipeline: str
    device: str
    load_seconds: float
    series: tuple[SeriesTrial, ...]
    """Those that were analysed first."""
    skipped: int
    """Files that are no DICOM."""


def run_trial(
    name: str,
    table: PipelineTable,
    folder: Path,
    out: Path | None,
    *,
    device: str,
    progress: Progress,
    kinds: Collection[str] = DEFAULT_OBJECTS,
) -> Trial:
    """Run pipeline ``name`` on every series below ``folder`` that meets its needs; write ``kinds`` to ``out``.

    Raises ``NotFoundError`` when there is no DICOM file, what loading raises, and what the pipeline raises itself.
    """
    found, skipped = series_below([folder], progress)
    groups = list(found.values())
    progress(f"loading {name} on {device}", 0, 1)
    started = time.monotonic()
    pipeline = load_pipeline(name, table, device)
    load_seconds = time.monotonic() - started
    trials = []
    for number, paths in enumerate(groups):
        progress(f"series {number + 1} of {len(groups)}, {len(paths)} images", number, len(groups))
        trials.append(_try_series(name, pipeline, paths, out, kinds, title=table.title_of(name)))
    progress("done", len(groups), len(groups))
    return Trial(
        pipeline=name,
        device=device,
        load_seconds=load_seconds,
        series=tuple(sorted(trials, key=lambda trial: trial.outcome == "not applicable")),
        skipped=skipped,
    )


def _try_series(
    name: str, pipeline: Pipeline, paths: list[Path], out: Path | None, kinds: Collection[str], *, title: str
) -> SeriesTrial:
    source = SourceSeries.read(paths)
    started = time.monotonic()
    findings = Findings()
    outcome: Outcome = "not applicable"
    try:
        outcome, reason, findings = analyse(pipeline, source)
    except Unsuitable as unsuitable:
        reason = str(unsuitable) or "the pipeline gave no reason"
    seconds = time.monotonic() - started
    files: tuple[Path, ...] = ()
    fault = ""
    if outcome != "not applicable":
        analysis = Analysis(
            pipeline=name,
            title=title,
            algorithm=pipeline.algorithm,
            generation=1,
            outcome=outcome,
            reason=reason,
            findings=findings,
            analysed_at=datetime.now(UTC),
        )
        files, fault = _encode(analysis, source, out, kinds)
    return SeriesTrial(
        series_instance_uid=source.series_instance_uid,
        modality=source.modality,
        description=str(source.attribute("SeriesDescription") or ""),
        images=len(paths),
        outcome=outcome,
        reason=reason,
        fault=fault,
        lesions=len(findings.lesions),
        segments=tuple(segment.label for segment in findings.all_segments),
        derived=tuple(series.description for series in findings.derived),
        remarks=findings.remarks,
        seconds=seconds,
        files=files,
    )


def _encode(
    analysis: Analysis, source: SourceSeries, out: Path | None, kinds: Collection[str]
) -> tuple[tuple[Path, ...], str]:
    """The files that were written, and what is wrong with them."""
    fault = ""
    objects: tuple[EncodedObject, ...] = ()
    try:
        objects = encode(analysis, source, kinds)
        check(objects, source)
    except EncodeError as error:
        fault = str(error)
    if out is None:
        return (), fault
    files = []
    for number, encoded in enumerate(objects):
        path = out / source.series_instance_uid / f"{number + 1:04d}-{encoded.kind}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.data)
        files.append(path)
    return tuple(files), fault

"""Try a pipeline on a folder of DICOM files, in a confined process as jobs run, without ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from node.config import DEFAULT_OBJECTS, Devices, JobsTable, PipelineTable
from node.errors import EncodeError, InputError
from node.inference.analysis_statistics import voxels_of
from node.inference.devices import thread_count
from node.inference.handover import load
from node.inference.model_process import ModelProcess
from node.inference.pipeline_description import PipelineDescription
from node.inference.pipeline_process import loading, pipeline_process
from node.inference.prerequisite_files import result_files, without_result
from node.inference.task import Reply, ResultFiles, Task
from node.inference.trial_files import kind_of, write_objects
from node.outcome import Outcome
from node.pipeline import Algorithm, Findings
from node.reasons import reason_text
from node.results.analysis import Analysis, EncodedObject
from node.results.encode import encode
from node.results.finding import Finding, place_findings
from node.results.gate.check import check
from node.results.placed_region import PlacedRegion, place_regions
from node.results.report_text import headline_of, measured_lines, remarks_of, scope_of
from node.studies.folder import Progress, series_below
from node.studies.source import SourceSeries
from node.translation import translations_of


@dataclass(frozen=True, kw_only=True)
class FindingTrial:
    """One finding in the words of the report."""

    label: str
    described: tuple[str, ...]
    """What it is, on which side and where, and on which image it is largest."""
    measured: tuple[str, ...]
    """Long and short axis, volume, certainty, and what the pipeline measured."""


@dataclass(frozen=True, kw_only=True)
class SeriesTrial:
    """Result of one series."""

    series_instance_uid: str
    modality: str
    description: str
    """Series Description (0008,103E)."""
    images: int
    outcome: Outcome
    reason: str
    """Why it is partial or not applicable."""
    reason_translations: Mapping[str, str]
    """By language, without English; empty where the pipeline gave none."""
    fault: str
    """Why a node would not send the result; empty when it passed the gate."""
    headline: str
    """The outcome as the report says it."""
    scope: str
    """What the algorithm finds and misses, where the headline does not say it."""
    lesions: int
    segments: tuple[str, ...]
    """Labels."""
    findings: tuple[FindingTrial, ...]
    """In the order of the report."""
    measured: tuple[str, ...]
    """What was measured without a mask."""
    derived: tuple[str, ...]
    """Descriptions."""
    remarks: tuple[str, ...]
    seconds: float
    """Of the run."""
    cpu_seconds: float
    """Computing of the process from files to findings."""
    peak_memory_mib: Mapping[str, float]
    """``host`` and, on a CUDA device, ``device``; with the loaded model."""
    files: tuple[Path, ...]
    """DICOM objects that were written."""
    pictures: tuple[Path, ...]
    """Key images among them, as PNG."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Results of a folder."""

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
    companions: Mapping[str, Path] | None = None,
    before: Mapping[str, PipelineTable] = MappingProxyType({}),
) -> Trial:
    """Run pipeline ``name`` on every series below ``folder`` that meets its needs; write ``kinds`` to ``out``.

    ``companions``: folders of one series each, by the name that the rule gives them. ``before``: the pipelines that run
    before it, in their order. Raises ``InputError`` for a folder
    with several, ``NotFoundError`` when there is no DICOM file, and what ``ModelProcess.run`` raises.
    """
    series, skipped = series_below([folder], progress)
    groups = list(series.values())
    progress(f"loading {name} on {device}", 0, 1)
    others = {name: _only_series(name, folder, progress) for name, folder in (companions or {}).items()}
    trials = []
    with trial_process(name, table, device, before) as process:
        for number, paths in enumerate(groups):
            progress(f"series {number + 1} of {len(groups)}, {len(paths)} images", number, len(groups))
            trials.append(process.analyse(paths, out, kinds, others))
    progress("done", len(groups), len(groups))
    return Trial(
        pipeline=name,
        device=device,
        load_seconds=process.load_seconds,
        series=tuple(sorted(trials, key=lambda trial: trial.outcome == Outcome.NOT_APPLICABLE)),
        skipped=skipped,
    )


class TrialProcess:
    """A pipeline in a confined process, as jobs run it, and before it those whose results it needs."""

    def __init__(self, worker: ModelProcess, name: str, table: PipelineTable, before: Sequence[TrialProcess]) -> None:
        self._worker = worker
        self._task = loading(name, table)
        self.name, self.title = name, table.title_of(name)
        self._before = before
        reply = worker.run(self._task, lambda: True)
        self.load_seconds = reply.timings["load"]
        self.description = PipelineDescription.received(reply.description)

    def analyse(
        self,
        paths: Iterable[Path],
        out: Path | None,
        kinds: Collection[str],
        companions: Mapping[str, tuple[Path, ...]] | None = None,
    ) -> SeriesTrial:
        """Analyse one series; write its objects to a folder of its own below ``out``."""
        given: dict[str, Any] = {
            "job_id": "trial",
            "paths": tuple(paths),
            "companions": dict(companions or {}),
            "load_only": False,
        }
        results: dict[str, ResultFiles] = {}
        with TemporaryDirectory(prefix="ainode-") as below:
            for process in self._before:
                given["results"] = dict(results)
                encoded = process.run(given, Path(below) / process.name, (*DEFAULT_OBJECTS, "derived"))
                outcome, why = (Outcome.FAILED, encoded.fault) if encoded.fault else (encoded.outcome, encoded.reason)
                if (fault := without_result(process.title, outcome, why)) is not None:
                    return _without_run(replace(self._task, **given), fault[0], reason_text(fault[1]))
                results[process.name] = result_files(outcome, why, {kind_of(path): path for path in encoded.files})
            return self.run(given | {"results": results}, out, kinds)

    def run(self, given: Mapping[str, Any], out: Path | None, kinds: Collection[str]) -> SeriesTrial:
        """Run the pipeline alone; ``given``: fields of ``Task``."""
        return _try_series(self._worker, replace(self._task, **given), out, kinds)


@contextmanager
def trial_process(
    name: str, table: PipelineTable, device: str, before: Mapping[str, PipelineTable] = MappingProxyType({})
) -> Iterator[TrialProcess]:
    """Load a pipeline and those that run ``before`` it, in their order; they end with the context."""
    seconds, threads = JobsTable().run_timeout_seconds, thread_count(Devices())
    loaded: list[TrialProcess] = []
    with ExitStack() as stack:
        for pipeline, of in (*before.items(), (name, table)):
            worker = stack.enter_context(pipeline_process(of, device, threads=threads, seconds=seconds))
            loaded.append(TrialProcess(worker, pipeline, of, tuple(loaded)))
        yield loaded[-1]


def _only_series(name: str, folder: Path, progress: Progress) -> tuple[Path, ...]:
    """Files of the only series below ``folder``. Raises ``InputError`` when there are several."""
    series, _ = series_below([folder], progress)
    if len(series) != 1:
        raise InputError(f"companion {name}: {folder} holds {len(series)} series; give the folder of one")
    return tuple(*series.values())


def _try_series(worker: ModelProcess, task: Task, out: Path | None, kinds: Collection[str]) -> SeriesTrial:
    with TemporaryDirectory(prefix="ainode-") as folder:
        task = replace(task, folder=Path(folder) / "trial")
        reply = worker.run(task, lambda: True)
        source = SourceSeries.read(task.paths)
        handed_over = load(task.folder, voxels_of(source))
    if handed_over.of_volumes:
        source = source.first_volume
    if handed_over.images:
        source = source.of_images(handed_over.images)
    outcome = Outcome(reply.outcome)
    analysis = Analysis(
        pipeline=task.pipeline,
        title=task.table.title_of(task.pipeline),
        algorithm=handed_over.algorithm,
        generation=1,
        outcome=outcome,
        reason=reply.reason,
        findings=handed_over.findings if outcome != Outcome.NOT_APPLICABLE else None,
        analysed_at=handed_over.analysed_at,
        inputs=handed_over.inputs,
    )
    return _series_trial(analysis, source, len(task.paths), kinds, out, reply=reply)


def _without_run(task: Task, outcome: Outcome, why: str) -> SeriesTrial:
    """Return what is said of a series on which the pipeline cannot run."""
    title = task.table.title_of(task.pipeline)
    analysis = Analysis(
        pipeline=task.pipeline,
        title=title,
        algorithm=Algorithm(name=title, version=""),
        generation=1,
        outcome=outcome,
        reason=why,
        analysed_at=datetime.now(UTC),
    )
    return _series_trial(analysis, SourceSeries.read(task.paths), len(task.paths), (), None, reply=Reply())


def _series_trial(
    analysis: Analysis, source: SourceSeries, images: int, kinds: Collection[str], out: Path | None, *, reply: Reply
) -> SeriesTrial:
    """Encode an analysis, and write its objects below ``out``."""
    findings = analysis.findings or Findings()
    objects, fault = _encode(analysis, source, kinds) if analysis.findings is not None else ((), "")
    files, pictures = write_objects(objects, out / source.series_instance_uid) if out is not None else ((), ())
    return SeriesTrial(
        series_instance_uid=source.series_instance_uid,
        modality=source.modality,
        description=str(source.attribute("SeriesDescription") or ""),
        images=images,
        outcome=analysis.outcome,
        reason=analysis.reason,
        reason_translations=translations_of(analysis.reason),
        headline=headline_of(analysis),
        scope=scope_of(analysis),
        fault=fault,
        lesions=len(findings.lesions) + len(findings.positive_regions),
        segments=tuple(segment.label for segment in findings.all_segments),
        findings=_findings(findings, source) if not fault else (),
        measured=measured_lines(findings),
        derived=tuple(series.description for series in findings.derived),
        remarks=remarks_of(analysis),
        seconds=reply.timings.get("run", 0.0),
        cpu_seconds=reply.cpu_seconds,
        peak_memory_mib=reply.peak_memory_mib,
        files=files,
        pictures=pictures,
    )


def _findings(findings: Findings, source: SourceSeries) -> tuple[FindingTrial, ...]:
    outlined = place_findings(findings, source, source.geometry, "") if findings.all_segments else ()
    placed: list[Finding | PlacedRegion] = [*outlined, *place_regions(findings, source, "")]
    return tuple(
        FindingTrial(
            label=finding.label,
            described=tuple(filter(None, (*finding.described(), finding.image))),
            measured=finding.measured(),
        )
        for finding in placed
    )


def _encode(analysis: Analysis, source: SourceSeries, kinds: Collection[str]) -> tuple[tuple[EncodedObject, ...], str]:
    """Return the objects and their faults."""
    objects: tuple[EncodedObject, ...] = ()
    try:
        objects = encode(analysis, source, kinds)
        check(objects, source)
    except EncodeError as error:
        return objects, str(error)
    return objects, ""

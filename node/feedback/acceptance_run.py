"""Runs an acceptance test: analyses every series and compares the results with the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from node.confined import Bounds, ConfinedProcess
from node.errors import InputError, NodeError
from node.feedback.acceptance_figures import AcceptanceCase
from node.feedback.truth import TruthCase
from node.feedback.truth_comparison import CaseComparison, CaseFiles, compare_with_truth
from node.outcome import ANALYSED, Outcome
from node.studies.folder import Progress, folders_of

MOST_PICTURES = 24
"""Of failures, in all."""
_OF_A_SERIES = 3
_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=180, wall_seconds=600.0)


@dataclass(frozen=True, kw_only=True)
class CaseAnalysis:
    """What an analysis made of a series."""

    outcome: Outcome
    reason: str
    """Why it is partial or not applicable, or why a node would not send the result."""
    is_valid: bool
    """Whether a node would send the result."""
    seconds: float
    segmentation: Path | None
    report: Path | None


Analyse = Callable[[Sequence[Path], Path], CaseAnalysis]
"""Analyses the images of a series, and writes its objects below a folder."""


def run_cases(
    cases: Sequence[TruthCase], analyse: Analyse, progress: Progress, *, labels: Sequence[str]
) -> list[AcceptanceCase]:
    """Analyse each series in turn and compare it; a series that cannot be analysed does not end the test.

    ``labels``: segments of the truth that count; empty: all.
    """
    with TemporaryDirectory(prefix="ainode-") as out:
        readable = [*folders_of(files_of(cases)), Path(out)]
        process = ConfinedProcess("comparison with truth", readable=readable, bounds=_BOUNDS)
        run = _Run(process, analyse, Path(out), tuple(labels))
        tested = []
        try:
            for number, case in enumerate(cases):
                progress(f"series {number + 1} of {len(cases)}, {len(case.images)} images", number, len(cases))
                tested.append(run.case(case))
        finally:
            process.close()
    progress("done", len(cases), len(cases))
    return tested


class _Run:
    """A test that is running."""

    def __init__(self, process: ConfinedProcess, analyse: Analyse, out: Path, labels: tuple[str, ...]) -> None:
        self._process = process
        self._analyse = analyse
        self._out = out
        self._labels = labels
        self._pictures = MOST_PICTURES

    def case(self, case: TruthCase) -> AcceptanceCase:
        """Analyse one series and compare it with its truth."""
        outcome, seconds, fault = Outcome.FAILED, 0.0, ""
        comparison: CaseComparison | None = None
        try:
            with TemporaryDirectory(dir=self._out) as folder:
                analysis = self._analyse(case.images, Path(folder))
                outcome, seconds = analysis.outcome, analysis.seconds
                if outcome in ANALYSED and analysis.is_valid:
                    comparison = self._compared(case, analysis)
                else:
                    fault = f"{outcome}: {analysis.reason}" if analysis.reason else str(outcome)
        except InputError as error:
            fault = str(error)
        except NodeError as error:
            fault = f"{outcome}: {error}"
        return AcceptanceCase(
            study_instance_uid=case.study_instance_uid,
            series_instance_uid=case.series_instance_uid,
            outcome=outcome,
            seconds=seconds,
            fault=fault,
            comparison=comparison,
        )

    def _compared(self, case: TruthCase, analysis: CaseAnalysis) -> CaseComparison:
        files = CaseFiles(
            images=case.images,
            segmentation=analysis.segmentation,
            report=analysis.report,
            parts=case.parts,
            labels=self._labels,
            pictures=min(_OF_A_SERIES, self._pictures),
        )
        comparison = self._process.call(f"truth of series {case.series_instance_uid}", compare_with_truth, files)
        self._pictures -= len(comparison.pictures)
        return comparison


def files_of(cases: Iterable[TruthCase]) -> list[Path]:
    """Every file of the test once."""
    paths = (path for case in cases for path in (*case.images, *(part.path for part in case.parts)))
    return list(dict.fromkeys(paths))


def data_digest(cases: Iterable[TruthCase]) -> str:
    """SHA-256 of the sorted SHA-256 of all files of the test: the same files, under any names, give the same."""
    digests = []
    for path in files_of(cases):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()

"""``ainode accept`` and ``acceptance``: tests of a pipeline on this site's studies, and what they allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import config_option, echo, json_option, load, local_user, print_json, progress_bar

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.config import Config
    from node.feedback.acceptance_figures import AcceptanceCase
    from node.feedback.acceptance_report import AcceptanceReport
    from node.feedback.acceptance_run import CaseAnalysis
    from node.feedback.truth import TruthCase
    from node.inference.try_pipeline import TrialProcess
    from node.ledger.acceptances import Acceptance
    from node.studies.folder import Progress


@click.command()
@config_option
@json_option
@click.option(
    "--verdicts", metavar="NAME", help="Test on the ledger's studies, with readers' verdicts on pipeline NAME."
)
@click.option("--negatives", is_flag=True, help="Take a series of FOLDER without truth for one without a lesion.")
@click.option("--label", "labels", multiple=True, help="Count only segments of the truth with this label; repeatable.")
@click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as PDF to this file.")
@click.option("--device", default="cpu", show_default=True, help="cpu or a CUDA device such as cuda:0.")
@click.argument("pipeline")
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
def accept(
    *,
    config_path: Path,
    as_json: bool,
    verdicts: str | None,
    negatives: bool,
    labels: tuple[str, ...],
    pdf: Path | None,
    device: str,
    pipeline: str,
    folder: Path | None,
) -> None:
    """Test a configured PIPELINE on studies of this site.

    FOLDER holds series of images and segmentations (SEG) or structure sets (RTSTRUCT) that outline their lesions. Each
    series is analysed in a confined process, as jobs are, and compared with the truth: sensitivity, false reports,
    FROC, Dice, volumes, calibration, by scanner and size, with 95 % intervals, and the failed cases. The report is kept
    in the ledger; `ainode acceptance approve` allows its version to send results.
    """
    from datetime import UTC, datetime

    from node.errors import ConfigError
    from node.feedback.acceptance_report import as_document, as_text
    from node.service import open_storage

    config = load(config_path)
    if pipeline not in config.pipelines:
        raise ConfigError(f"there is no pipeline {pipeline!r}; [pipelines.NAME] defines {', '.join(config.pipelines)}")
    if (folder is None) == (verdicts is None):
        raise click.UsageError("give the FOLDER of studies with truth, or --verdicts NAME")
    with progress_bar("reading headers", hidden=as_json) as show:
        of = read_truth(config, folder, verdicts, show, negatives=negatives)
        show(f"loading {pipeline} on {device}", 0, 1)
        report, tested = run_test(config, pipeline, device, replace(of, labels=labels), show)
    engine, _ = open_storage(config)
    document = as_document(report)
    recorded = record_report(engine, report, document)
    if pdf is not None:
        from node.feedback.acceptance_pdf import acceptance_pdf

        at = datetime.fromtimestamp(recorded.tested_at, UTC).astimezone()
        pdf.write_bytes(acceptance_pdf(report, tested, name=recorded.id, at=at))
    if as_json:
        print_json({"report": recorded.id, **document})
        return
    echo(as_text(report))
    echo(f"\nreport {recorded.id}; ainode acceptance approve {recorded.id} --reason ... allows this version to send")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The series to test, and what is said of their truth."""

    cases: tuple[TruthCase, ...]
    origin: str
    left_out: tuple[str, ...]
    labels: tuple[str, ...] = ()


def read_truth(
    config: Config,
    folder: Path | None,
    verdicts: str | None,
    show: Progress,
    *,
    negatives: bool = False,
    images: Path | None = None,
) -> Truth:
    """Read the truth below ``folder``, of ``images`` there or elsewhere, or readers' ``verdicts`` on a pipeline."""
    if folder is not None:
        from node.feedback.truth import read_truth_folder

        truth = read_truth_folder(folder, show, negatives=negatives, images=images)
        without = f"{truth.without_truth} series without truth: "
        numbers = (
            (truth.without_truth, without + ("taken as without a lesion" if negatives else "not tested")),
            (truth.without_images, f"{truth.without_images} segmentations or structure sets without their images"),
            (truth.of_this_software, f"{truth.of_this_software} results of a node: no truth"),
        )
        return Truth(
            cases=truth.cases,
            origin="segmentations and structure sets of a folder",
            left_out=tuple(text for number, text in numbers if number),
        )
    from node.feedback.verified_cases import read_verified_cases
    from node.service import open_storage

    verified = read_verified_cases(*open_storage(config), verdicts or "")
    return Truth(
        cases=tuple(case.case for case in verified.cases),
        origin=f"verdicts of readers on pipeline {verdicts}",
        left_out=tuple(f"{number} judged analyses not tested: {why}" for why, number in verified.left_out.items()),
    )


def run_test(
    config: Config, pipeline: str, device: str, of: Truth, show: Progress
) -> tuple[AcceptanceReport, list[AcceptanceCase]]:
    """Run the test of a configured pipeline; returns its report and every case."""
    from node.feedback.acceptance import figures_of
    from node.feedback.acceptance_report import AcceptanceReport
    from node.feedback.acceptance_run import data_digest, run_cases
    from node.inference.tested_version import version_of
    from node.inference.try_pipeline import trial_process

    table = config.pipelines[pipeline]
    before = {name: config.pipelines[name] for name in config.before(pipeline)}
    with trial_process(pipeline, table, device, before) as process:
        tested = run_cases(of.cases, _SeriesAnalysis(process), show, labels=of.labels)
        description = process.description
    version = version_of(pipeline, table, description)
    report = AcceptanceReport(
        pipeline=pipeline,
        algorithm=description.algorithm,
        version=version.version,
        weights=version.weights,
        options=version.options,
        configuration=config.digest,
        data=data_digest(of.cases),
        truth=f"{of.origin}, segments {', '.join(of.labels)}" if of.labels else of.origin,
        device=device,
        who=local_user(),
        left_out=of.left_out,
        figures=figures_of(tested),
    )
    return report, tested


def record_report(engine: sa.Engine, report: AcceptanceReport, document: dict[str, Any]) -> Acceptance:
    """Keep a report in the ledger; ``document``: what ``as_document`` made of it."""
    from node.ledger.acceptances import PipelineVersion, record_acceptance
    from node.ledger.engine import begin_immediate

    version = PipelineVersion(version=report.version, weights=report.weights, options=report.options)
    with begin_immediate(engine) as connection:
        return record_acceptance(
            connection,
            report.pipeline,
            version,
            document,
            configuration=report.configuration,
            data=report.data,
            who=report.who,
        )


class _SeriesAnalysis:
    """Runs a loaded pipeline on a series, with the objects that a comparison needs."""

    def __init__(self, process: TrialProcess) -> None:
        self._process = process

    def __call__(self, images: Sequence[Path], out: Path) -> CaseAnalysis:
        from node.feedback.acceptance_run import CaseAnalysis

        series = self._process.analyse(images, out, ("seg", "sr"))
        files = {path.stem.partition("-")[2]: path for path in series.files}
        return CaseAnalysis(
            outcome=series.outcome,
            reason=series.fault or series.reason,
            is_valid=not series.fault,
            seconds=series.seconds,
            segmentation=files.get("seg"),
            report=files.get("sr"),
        )


@click.group()
def acceptance() -> None:
    """List, show and approve the reports of acceptance tests."""


@acceptance.command("list")
@config_option
@json_option
def list_reports(*, config_path: Path, as_json: bool) -> None:
    """List the reports with their state, the latest first."""
    from node.ledger.acceptances import acceptances
    from node.operate.explain import clock
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    with engine.connect() as connection:
        reports = acceptances(connection)
    if as_json:
        print_json([asdict(report) for report in reports])
        return
    for report in reports:
        state = (
            f"approved by {report.approved_by}"
            if report.is_approved
            else "withdrawn"
            if report.withdrawn_at
            else "open"
        )
        tested = f"tested {clock(report.tested_at)} by {report.who}"
        echo(
            f"{report.id}  {report.pipeline} {report.version}, weights {(report.weights or 'none')[:12]}, "
            f"{tested}: {state}"
        )
    if not reports:
        echo("No pipeline was tested; `ainode accept PIPELINE FOLDER` tests one.")


@acceptance.command()
@config_option
@json_option
@click.argument("report")
def show(*, config_path: Path, as_json: bool, report: str) -> None:
    """Show a REPORT again, by its id or the beginning of it."""
    from node.feedback.acceptance_report import as_text, of_document
    from node.ledger.acceptances import acceptance_report
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    with engine.connect() as connection:
        document = acceptance_report(connection, report)
    if as_json:
        print_json(document)
    else:
        echo(as_text(of_document(document)))


_reason_option = click.option("--reason", required=True, help="Why; it is kept with the report and in the audit trail.")


@acceptance.command()
@config_option
@_reason_option
@click.argument("report")
def approve(*, config_path: Path, reason: str, report: str) -> None:
    """Let the version of a REPORT send results.

    Matters where `require_acceptance` is set for the pipeline. Applies to analyses from now on.
    """
    from node.operate.acceptance_acts import approve_report
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    approved = approve_report(engine, report, reason=reason, who=local_user())
    echo(f"results of {approved.pipeline} {approved.version} may be sent, by report {approved.id}")


@acceptance.command()
@config_option
@_reason_option
@click.argument("report")
def withdraw(*, config_path: Path, reason: str, report: str) -> None:
    """Take back the approval of a REPORT.

    Where `require_acceptance` is set, results of its version are kept in shadow from the next analysis on.
    """
    from node.operate.acceptance_acts import withdraw_approval
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    withdrawn = withdraw_approval(engine, report, reason=reason, who=local_user())
    echo(f"report {withdrawn.id} on {withdrawn.pipeline} {withdrawn.version} is withdrawn")


VERBS = (accept, acceptance)

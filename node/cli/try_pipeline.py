"""``ainode try``: a pipeline on a folder of DICOM files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, json_option, load, print_json, progress_bar
from node.errors import GateError, PipelineError
from node.wording import NOTICE

if TYPE_CHECKING:
    from node.config import Config, PipelineTable
    from node.inference.try_pipeline import SeriesTrial, Trial


@click.command("try")
@config_option
@json_option
@click.option("--out", type=click.Path(path_type=Path), help="Write DICOM objects and key images (PNG) to this folder.")
@click.option("--device", default="cpu", show_default=True, help="cpu or a CUDA device such as cuda:0.")
@click.option(
    "--companion",
    "companions",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A companion as a rule would give it; may be given several times.",
)
@click.option(
    "--after",
    multiple=True,
    metavar="PIPELINE",
    help="A pipeline whose result this one needs, also as NAME=module:factory; of several, in the order in which they "
    "run.",
)
@click.argument("pipeline")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def try_pipeline(
    *,
    config_path: Path,
    as_json: bool,
    out: Path | None,
    device: str,
    companions: tuple[str, ...],
    after: tuple[str, ...],
    pipeline: str,
    folder: Path,
) -> None:
    """Run a pipeline on every series of a folder.

    Needs neither network nor ledger. Prints the outcome, what was measured and, for each finding, its location, size
    and certainty. Exits with status 5 if a node would not send a result, and with status 4 if an analysis failed.

    PIPELINE is a name in config.toml, an installed pipeline, or module:factory.
    """
    from node.config import DEFAULT_OBJECTS, Config
    from node.inference.try_pipeline import run_trial
    from node.outcome import Outcome

    config = load(config_path) if config_path.exists() else Config()
    name, table = _named(pipeline, config)
    before = _before(pipeline, after, config)
    with progress_bar("reading headers", hidden=as_json) as show:
        trial = run_trial(
            name,
            table,
            folder,
            out,
            device=device,
            progress=show,
            kinds=(*DEFAULT_OBJECTS, "key images", "pdf"),
            companions=companion_folders(companions),
            before=before,
        )
    if as_json:
        print_json(asdict(trial))
    else:
        _show_trial(trial)
    for series in trial.series:
        if series.fault:
            raise GateError(f"series {series.series_instance_uid}: its result is not valid and would not be sent")
        if series.outcome == Outcome.FAILED:
            raise PipelineError(f"series {series.series_instance_uid}: {series.reason}")


def _named(pipeline: str, config: Config) -> tuple[str, PipelineTable]:
    """Name and table of a pipeline as the command line names it."""
    from node.config import PipelineTable

    if ":" not in pipeline:
        return pipeline, config.pipelines.get(pipeline, PipelineTable())
    name, is_named, factory = pipeline.partition("=")
    if not is_named:
        name, factory = pipeline.partition(":")[0].rpartition(".")[2], pipeline
    return name, PipelineTable(factory=factory)


def _before(pipeline: str, after: tuple[str, ...], config: Config) -> dict[str, PipelineTable]:
    """The pipelines that run before one, in their order: those of ``after`` with what these need, else as configured.

    Raises ``click.BadParameter`` when one of them would run twice.
    """
    own, _ = _named(pipeline, config)
    before: dict[str, PipelineTable] = {}
    for option in after or _needed(pipeline, config):
        name, table = _named(option, config)
        chain = {needed: config.pipelines[needed] for needed in _needed(option, config)} | {name: table}
        if own in chain or any(before.get(needed, chain[needed]) != chain[needed] for needed in chain):
            raise click.BadParameter(f"--after {option}: {own} or {name} would run twice; write NAME=module:factory")
        before |= chain
    return before


def _needed(pipeline: str, config: Config) -> tuple[str, ...]:
    """The pipelines that run before one by the configuration, which says nothing about ``module:factory``."""
    return () if ":" in pipeline else config.before(pipeline)


def companion_folders(named: tuple[str, ...]) -> dict[str, Path]:
    """Folders by name. Raises ``click.BadParameter`` unless each is ``NAME=FOLDER``."""
    folders = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in named)}
    for name, folder in folders.items():
        if not name or not folder.is_dir():
            raise click.BadParameter(f"{name}={folder}: no such folder; write --companion NAME=FOLDER")
    return folders


def cost_text(series: SeriesTrial, device: str) -> str:
    """Time and memory of the run on a series."""
    peaks = ", ".join(f"{mib:.0f} MiB {where}" for where, mib in series.peak_memory_mib.items())
    cost = f"{series.seconds:.1f} s on {device}, {series.cpu_seconds:.1f} CPU seconds"
    return f"{cost}, peak memory {peaks}" if peaks else cost


def _show_trial(trial: Trial) -> None:
    from node.outcome import Outcome

    echo(NOTICE)
    for series in trial.series:
        echo(f"\n{series.modality} {series.description!r}, {series.images} images")
        for line in filter(None, (series.headline, series.scope)):
            echo(f"  {line}")
        for finding in series.findings:
            echo(f"  {finding.label}: {'; '.join(finding.described)}")
            if finding.measured:
                echo(f"    {'; '.join(finding.measured)}")
        for line in (*series.measured, *series.derived, *series.remarks):
            echo(f"  {line}")
        if series.outcome != Outcome.NOT_APPLICABLE:
            echo(f"  {cost_text(series, trial.device)}, {len(series.files)} objects written")
        for path in series.pictures:
            echo(f"  key image {path}")
        if series.fault:
            echo(f"  NOT VALID, WOULD NOT BE SENT: {series.fault}")


VERBS = (try_pipeline,)

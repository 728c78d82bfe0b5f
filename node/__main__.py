"""The verbs of ``ainode``. Exit status: 0, or the code of the error class (see ``node/errors.py``)."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node import __version__, log
from node.cli import (
    acceptance,
    account,
    audit,
    backup,
    bench,
    codes,
    conformance,
    demo,
    doctor,
    exclude,
    explain,
    export,
    fetch,
    fleet,
    jobs,
    join,
    models,
    orders,
    phantom,
    plan,
    pseudonyms,
    quality,
    recipes,
    reconcile,
    records,
    retention,
    rules,
    send,
    status,
    trial,
)
from node.cli import init as first_run
from node.cli import web as dashboard
from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json, progress_bar
from node.errors import ConfigError, GateError, NodeError, PipelineError, PlatformError
from node.translation import gettext, language_of_environment
from node.wording import NOTICE

if TYPE_CHECKING:
    from node.config import PipelineTable
    from node.inference.try_pipeline import Trial

logger = logging.getLogger(__name__)


class _Group(click.Group):
    """Reports a ``NodeError`` as one line with its exit status; any other exception is a bug with a traceback.

    Help is in the language of the locale; completions are English, because one script serves all users of a machine.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        language = language_of_environment(os.environ)
        if language == "en" or "_AINODE_COMPLETE" in os.environ:
            return super().main(*args, **extra)
        from node.cli.help import localized

        return click.Group.main(localized(self, language), *args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"node", "pipelines"}:
                raise
            echo(f"ainode: {error}; install ainode again with its dependencies", err=True)
            sys.exit(PlatformError.exit_code)
        except NodeError as error:
            echo(f"ainode: {error}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ainode")
def main() -> None:
    """A DICOM network node that runs deep-learning pipelines next to a PACS.

    \b
    First steps:
      ainode demo                     try it with a demo PACS and synthetic studies
      ainode init                     write a configuration, list the settings for PACS and scanner
      ainode doctor                   check that machine, configuration and network are ready
      ainode run                      start the node
      ainode status                   show processed, waiting and failed work
      ainode explain STUDY            show why a study was (or was not) processed
    """  # noqa: D301 - click wants the character
    level = os.environ.get("AINODE_LOG", "INFO").upper()
    log.set_up(level, os.environ.get("AINODE_LOG_FORMAT", "text"))


@main.command()
@config_option
@click.option(
    "--only",
    metavar="ROLE",
    help="Run one role only: receiver, router, worker, sender, web, files, orders or dicomweb.",
)
def run(config_path: Path, only: str | None) -> None:
    """Run the node in the foreground until SIGTERM or Ctrl-C.

    SIGHUP (systemctl reload) reloads the configuration without dropping an association.
    """
    from node.process.left_out import leave_out_decoders
    from node.roles import ROLES

    if only is not None and only not in ROLES:
        raise ConfigError(f"--only {only!r}: unknown role; use one of {', '.join(ROLES)}")
    if not sys.flags.safe_path:
        # A folder `node` or `pipelines` in the working directory must not hide our packages from any of our processes.
        arguments = ["run", "--config", str(config_path), *(["--only", only] if only else [])]
        os.execv(sys.executable, [sys.executable, "-P", "-m", "node", *arguments])  # noqa: S606 - this program again
    leave_out_decoders()
    from node.service import run_node

    run_node(config_path, only)


@main.command()
@config_option
@json_option
@in_language_of_user
def pipelines(*, config_path: Path, as_json: bool) -> None:
    """List the pipelines with input requirements and weights."""
    from node.check import describe_pipelines
    from node.inference.pipeline_description import needs_text

    entries = list(describe_pipelines(load(config_path)))
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        echo(f"{entry['name']}: {entry.get('error') or entry['algorithm'] + ' ' + entry['version']}")
        if entry.get("needs"):
            echo(gettext("  needs: {needs}", needs=needs_text(entry["needs"])))
        if entry.get("license"):
            echo(gettext("  licence: {licence}", licence=entry["license"]))
        if entry.get("weights_sha256"):
            echo(gettext("  weights SHA-256: {digest}", digest=entry["weights_sha256"]))


@main.command("try")
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
@click.argument("pipeline")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def try_pipeline(
    *,
    config_path: Path,
    as_json: bool,
    out: Path | None,
    device: str,
    companions: tuple[str, ...],
    pipeline: str,
    folder: Path,
) -> None:
    """Run a pipeline on every series of a folder.

    Needs neither network nor ledger. Prints the outcome, what was measured and, for each finding, its location, size
    and certainty. Exits with status 5 if a node would not send a result, and with status 4 if an analysis failed.

    PIPELINE is a name in config.toml, an installed pipeline, or module:factory.
    """
    from node.config import DEFAULT_OBJECTS
    from node.inference.try_pipeline import run_trial
    from node.outcome import Outcome

    name, table, before = _named_pipeline(pipeline, config_path)
    with progress_bar("reading headers", hidden=as_json) as show:
        kinds = (*DEFAULT_OBJECTS, "key images", "pdf")
        others = _companions(companions)
        given: dict[str, Any] = {"companions": others, "before": before}
        trial = run_trial(name, table, folder, out, device=device, progress=show, kinds=kinds, **given)
    if as_json:
        print_json(asdict(trial))
    else:
        _show_trial(trial)
    for series in trial.series:
        if series.fault:
            raise GateError(f"series {series.series_instance_uid}: its result is not valid and would not be sent")
        if series.outcome == Outcome.FAILED:
            raise PipelineError(f"series {series.series_instance_uid}: {series.reason}")


def _companions(named: tuple[str, ...]) -> dict[str, Path]:
    """Folders by name. Raises ``click.BadParameter`` unless each is ``NAME=FOLDER``."""
    folders = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in named)}
    for name, folder in folders.items():
        if not name or not folder.is_dir():
            raise click.BadParameter(f"{name}={folder}: no such folder; write --companion NAME=FOLDER")
    return folders


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
            echo(f"  {series.seconds:.1f} s on {trial.device}, {len(series.files)} objects written")
        for path in series.pictures:
            echo(f"  key image {path}")
        if series.fault:
            echo(f"  NOT VALID, WOULD NOT BE SENT: {series.fault}")


def _named_pipeline(pipeline: str, config_path: Path) -> tuple[str, PipelineTable, dict[str, PipelineTable]]:
    """Return name and table of the pipeline argument of ``ainode try``, and the tables of those that run before it."""
    from node.config import Config, PipelineTable

    if ":" in pipeline:
        return pipeline.partition(":")[0].rpartition(".")[2], PipelineTable(factory=pipeline), {}
    config = load(config_path) if config_path.exists() else Config()
    before = {name: config.pipelines[name] for name in config.before(pipeline)}
    return pipeline, config.pipelines.get(pipeline, PipelineTable()), before


for verb in (
    *explain.VERBS,
    *status.VERBS,
    *fetch.VERBS,
    *send.VERBS,
    *fleet.VERBS,
    *join.VERBS,
    *account.VERBS,
    *exclude.VERBS,
    *jobs.VERBS,
    *orders.VERBS,
    *bench.VERBS,
    *backup.VERBS,
    *demo.VERBS,
    *doctor.VERBS,
    *phantom.VERBS,
    *quality.VERBS,
    *acceptance.VERBS,
    *export.VERBS,
    *reconcile.VERBS,
    *plan.VERBS,
    *retention.VERBS,
    *rules.VERBS,
    models.models,
    records.records,
    pseudonyms.pseudonyms,
    trial.trial,
    codes.codes,
    recipes.recipes,
    audit.audit,
    conformance.conformance,
    first_run.first_run,
    dashboard.web,
):
    main.add_command(verb)


if __name__ == "__main__":
    main()

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
from node.cli import audit, bench, conformance, doctor, ledger, models, phantom, reconcile, rules
from node.cli import init as first_run
from node.cli import web as dashboard
from node.cli.options import config_option, json_option, load, print_json
from node.errors import NodeError
from node.wording import NOTICE

if TYPE_CHECKING:
    from node.config import PipelineTable

logger = logging.getLogger(__name__)


class _Group(click.Group):
    """Errors on purpose become one message and their exit status; everything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NodeError as error:
            click.echo(f"ainode: {error}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ainode")
def main() -> None:
    """A DICOM network node that runs deep-learning pipelines beside the PACS.

    \b
    First steps:
      ainode demo                     see it work, with a demo PACS and synthetic studies
      ainode init                     write a configuration, and say what to enter on PACS and scanner
      ainode doctor                   is this machine, configuration and network ready?
      ainode run                      start the node
      ainode status                   what it has done and what waits
      ainode explain STUDY_UID        why a study was (not) processed
    """  # noqa: D301 - click wants the character
    level = os.environ.get("AINODE_LOG", "INFO").upper()
    log.set_up(level, os.environ.get("AINODE_LOG_FORMAT", "text"))


@main.command()
@config_option
@click.option("--only", metavar="ROLE", help="One role only: receiver, router, worker, sender or web.")
def run(config_path: Path, only: str | None) -> None:
    """Start the node and stay in the foreground until SIGTERM or Ctrl-C.

    SIGHUP (systemctl reload) reads the configuration again and drops no association.
    """
    from node.service import run_node

    run_node(config_path, only)


@main.command()
@config_option
@json_option
def pipelines(*, config_path: Path, as_json: bool) -> None:
    """List the configured pipelines, what they need and which weights they run."""
    from node.check import describe_pipelines

    found = describe_pipelines(load(config_path))
    if as_json:
        print_json(found)
        return
    for entry in found:
        click.echo(f"{entry['name']}: {entry.get('error') or entry['algorithm'] + ' ' + entry['version']}")
        for key in ("needs", "weights_sha256"):
            if entry.get(key):
                click.echo(f"  {key.replace('_', ' ')}: {entry[key]}")


@main.command("try")
@config_option
@json_option
@click.option("--out", type=click.Path(path_type=Path), help="Write the DICOM objects here, key images as PNG, too.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or a CUDA device such as cuda:0.")
@click.argument("pipeline")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def try_pipeline(
    *,
    config_path: Path,
    as_json: bool,
    out: Path | None,
    device: str,
    pipeline: str,
    folder: Path,
) -> None:
    """Run a pipeline on every series of a folder: no network, no ledger.

    Prints what the report says: outcome, and of each finding its place, size and certainty.

    PIPELINE is a name of config.toml, an installed pipeline, or module:factory.
    """
    from rich.progress import Progress

    from node.config import DEFAULT_OBJECTS
    from node.config.routing import Outcome
    from node.inference.try_pipeline import run_trial

    name, table = _named_pipeline(pipeline, config_path)
    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task("reading headers", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        kinds = (*DEFAULT_OBJECTS, "key images", "pdf")
        trial = run_trial(name, table, folder, out, device=device, progress=show, kinds=kinds)
    if as_json:
        print_json(asdict(trial))
        return
    click.echo(NOTICE)
    for series in trial.series:
        click.echo(f"\n{series.modality} {series.description!r}, {series.images} images")
        for line in filter(None, (series.headline, series.scope)):
            click.echo(f"  {line}")
        for finding in series.findings:
            click.echo(f"  {finding.label}: {'; '.join(finding.described)}")
            click.echo(f"    {'; '.join(finding.measured)}")
        for line in (*series.derived, *series.remarks):
            click.echo(f"  {line}")
        if series.outcome != Outcome.NOT_APPLICABLE:
            click.echo(f"  {series.seconds:.1f} s on {trial.device}, {len(series.files)} objects written")
        for path in series.pictures:
            click.echo(f"  key image {path}")
        if series.fault:
            click.echo(f"  NOT FIT TO BE SENT: {series.fault}")


def _named_pipeline(pipeline: str, config_path: Path) -> tuple[str, PipelineTable]:
    """Name and table of what ``ainode try`` was asked for."""
    from node.config import PipelineTable

    if ":" in pipeline:
        return pipeline.partition(":")[0].rpartition(".")[2], PipelineTable(factory=pipeline)
    configured = load(config_path).pipelines if config_path.exists() else {}
    return pipeline, configured.get(pipeline, PipelineTable())


@main.command()
@click.option("--studies", type=click.Path(path_type=Path, exists=True), help="Send these DICOM files, not phantoms.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Where to work."
)
@click.option("--keep", is_flag=True, help="Leave node and PACS running until Ctrl-C.")
def demo(*, studies: Path | None, folder: Path, keep: bool) -> None:
    """Show it all: a PACS, the node, a scanner with synthetic studies, and pictures of the results."""
    from node.demo.run import run_demo

    sys.exit(run_demo(studies, folder, keep=keep))


for verb in (
    *ledger.VERBS,
    *bench.VERBS,
    *doctor.VERBS,
    *phantom.VERBS,
    *reconcile.VERBS,
    *rules.VERBS,
    models.models,
    audit.audit,
    conformance.conformance,
    first_run.first_run,
    dashboard.web,
):
    main.add_command(verb)


if __name__ == "__main__":
    main()

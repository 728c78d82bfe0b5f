"""The verbs of ``ainode``. Exit status: 0, or the code of the error class (see ``node/errors.py``)."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from node import __version__, log
from node.cli import (
    acceptance,
    account,
    adopt,
    audit,
    backup,
    bench,
    codes,
    config,
    conformance,
    demo,
    doctor,
    exclude,
    explain,
    export,
    fetch,
    fetches,
    fleet,
    jobs,
    join,
    models,
    orders,
    packs,
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
    similar,
    status,
    trial,
    try_pipeline,
)
from node.cli import init as first_run
from node.cli import web as dashboard
from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import ConfigError, NodeError, PlatformError
from node.translation import gettext, language_of_environment

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
    gc.disable()  # until the supervisor: nothing of what is imported becomes free
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
        if entry.get("segment_labels"):
            echo(gettext("  outlines: {labels}", labels=", ".join(entry["segment_labels"])))
        if entry.get("license"):
            echo(gettext("  licence: {licence}", licence=entry["license"]))
        if entry.get("weights_sha256"):
            echo(gettext("  weights SHA-256: {digest}", digest=entry["weights_sha256"]))


for verb in (
    *explain.VERBS,
    *status.VERBS,
    *fetch.VERBS,
    *fetches.VERBS,
    *send.VERBS,
    *fleet.VERBS,
    *join.VERBS,
    *account.VERBS,
    *exclude.VERBS,
    *jobs.VERBS,
    *orders.VERBS,
    *packs.VERBS,
    *bench.VERBS,
    *backup.VERBS,
    *demo.VERBS,
    *doctor.VERBS,
    *phantom.VERBS,
    *quality.VERBS,
    *acceptance.VERBS,
    *adopt.VERBS,
    *export.VERBS,
    *reconcile.VERBS,
    *plan.VERBS,
    *retention.VERBS,
    *rules.VERBS,
    *config.VERBS,
    *try_pipeline.VERBS,
    models.models,
    records.records,
    pseudonyms.pseudonyms,
    trial.trial,
    similar.similar,
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

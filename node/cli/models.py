"""Verbs for models: bring one in, see that all are as pinned, read what they are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, json_option, load, print_json
from node.errors import WeightsError


@click.group()
def models() -> None:
    """Other people's models: bring in, check, describe (see docs/models.md)."""


@models.command()
@config_option
@json_option
@click.option("--sha256", help="Refuse any other content; required for a download.")
@click.option("--name", help="Name in the models folder and of the pipeline. Default: the file's.")
@click.argument("source")
def add(*, config_path: Path, as_json: bool, sha256: str | None, name: str | None, source: str) -> None:
    """Copy a bundle or model file, or download it, and print its part of config.toml.

    SOURCE is a folder, a file or an http(s) URL.
    """
    from node.inference.model_store import add as bring

    model = bring(source, load(config_path).storage.folder, sha256=sha256, name=name)
    if as_json:
        print_json(asdict(model))
        return
    click.echo(f"{model.path}\n\nPaste into config.toml, name the pipeline in a rule, then run `ainode check`:\n")
    click.echo(
        f"[pipelines.{model.name}]\nfactory = {json.dumps(model.factory)}\nweights = {json.dumps(str(model.path))}"
    )
    click.echo(f"\n[pipelines.{model.name}.options]\nsha256 = {json.dumps(model.sha256)}")


@models.command("list")
@config_option
@json_option
def list_models(*, config_path: Path, as_json: bool) -> None:
    """Every pipeline with its factory and weights, and the models that none uses."""
    from node.inference.model_store import listed

    found = listed(load(config_path))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        use = "configured" if one.configured else "installed" if one.factory else "unused"
        click.echo(f"{one.name:24} {use:11} {one.factory or '-':32} {one.weights or 'packaged weights'}")


@models.command()
@config_option
@json_option
def verify(*, config_path: Path, as_json: bool) -> None:
    """Compare every configured model's content with its pinned SHA-256.

    Ends with the status of a weights error when one differs.
    """
    from node.inference.model_store import verify as look

    found = [{"name": n, "path": p, "fault": f} for n, p, f in look(load(config_path))]
    if as_json:
        print_json(found)
    for one in found if not as_json else ():
        click.echo(
            f"{'FAIL' if one['fault'] else 'ok  '} {one['name']}: {one['path']} {one['fault'] or 'is as pinned'}"
        )
    if any(one["fault"] for one in found):
        raise WeightsError("a model is not as pinned; restore it, or pin it anew if you changed it on purpose")


@models.command()
@config_option
@click.argument("pipeline")
def card(config_path: Path, pipeline: str) -> None:
    """Print the model card of a configured or installed PIPELINE."""
    from node.config import PipelineTable
    from node.inference.model_store import card as read

    tables = load(config_path).pipelines if config_path.exists() else {}
    click.echo(read(pipeline, tables.get(pipeline, PipelineTable())))

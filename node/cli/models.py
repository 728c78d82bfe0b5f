"""``ainode models``: add, list, verify and describe models."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json
from node.errors import NotFoundError, WeightsError


@click.group()
def models() -> None:
    """Add, list, verify and describe models (see docs/models.md)."""


@models.command()
@config_option
@json_option
@click.option("--sha256", help="Expected SHA-256 of the content; required for a download.")
@click.option("--name", help="Name of the model and of its pipeline. Default: the file name.")
@click.argument("source")
def add(*, config_path: Path, as_json: bool, sha256: str | None, name: str | None, source: str) -> None:
    """Add a bundle or model file.

    Copies or downloads it, loads it once and prints its tables for config.toml.

    SOURCE is a folder, a file or an http(s) URL; container:IMAGE@sha256:DIGEST checks that the engine has the image.
    """
    from node.config import CONTAINER
    from node.inference.model_store import Model
    from node.inference.model_store import add as bring
    from node.inference.model_trial import ModelTrial, model_trial
    from node.inference.pipeline_description import needs_text

    if source.startswith(CONTAINER):
        _add_container(source, name or "container")
        return
    config = load(config_path)
    loaded: list[ModelTrial] = []

    def examine(model: Model) -> None:
        loaded.append(model_trial(model, config))

    model = bring(source, config.storage.folder, sha256=sha256, name=name, examine=examine)
    (result,) = loaded
    if as_json:
        print_json(asdict(model) | asdict(result))
        return
    echo(f"{model.path}\n")
    if (of := result.description) is not None:
        echo(f"It loads: {of.algorithm} {of.version}, for series with {needs_text(of.needs)}.\n")
    else:
        echo(f"It does not load yet: {result.fault}.\n")
    lacks = " with what it lacks" if result.fault else ""
    echo(f"Add this to config.toml{lacks}, name the pipeline in a rule, then run `ainode check`:\n")
    echo(f"[pipelines.{model.name}]\nfactory = {json.dumps(model.factory)}\nweights = {json.dumps(str(model.path))}")
    echo(f"\n[pipelines.{model.name}.options]\nsha256 = {json.dumps(model.sha256)}")


def _add_container(factory: str, name: str) -> None:
    from node.config import ContainerImage, outside_factory
    from node.errors import ConfigError
    from node.outside.container_engine import ContainerEngine

    try:
        image = outside_factory(factory)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if isinstance(image, ContainerImage):
        ContainerEngine(name, "").image_id(image)
    echo(f"Add this to config.toml, with options as docs/containers.md says:\n\n[pipelines.{name}]")
    echo(f"factory = {json.dumps(factory)}")


@models.command("list")
@config_option
@json_option
def list_models(*, config_path: Path, as_json: bool) -> None:
    """List pipelines with factory and weights, and unused models."""
    from node.inference.model_store import listed

    entries = listed(load(config_path))
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        use = "configured" if entry.configured else "installed" if entry.factory else "unused"
        echo(f"{entry.name:24} {use:11} {entry.factory or '-':32} {entry.weights or 'packaged weights'}")


@models.command()
@config_option
@json_option
def verify(*, config_path: Path, as_json: bool) -> None:
    """Compare every configured model with its pinned SHA-256.

    Exits with status 4 if any of them differs.
    """
    from node.inference.model_store import verify as look

    entries = [{"name": n, "path": p, "fault": f} for n, p, f in look(load(config_path))]
    if as_json:
        print_json(entries)
    for entry in entries if not as_json else ():
        echo(f"{'FAIL' if entry['fault'] else 'ok  '} {entry['name']}: {entry['path']} {entry['fault'] or 'matches'}")
    if any(entry["fault"] for entry in entries):
        raise WeightsError(
            "a model differs from its pinned SHA-256; restore it, or update sha256 if you changed it on purpose"
        )


@models.command()
@config_option
@click.argument("pipeline")
def card(config_path: Path, pipeline: str) -> None:
    """Print the model card of a configured or installed PIPELINE.

    That of `ainode adopt` is printed before the text of the author.
    """
    from node.adopt.adoption import FOLDER
    from node.adopt.model_card import CARD
    from node.config import Config, PipelineTable
    from node.inference.model_store import card as read

    config = load(config_path) if config_path.exists() else Config()
    table = config.pipelines.get(pipeline, PipelineTable())
    adopted = config.storage.folder / FOLDER / pipeline / CARD
    if not adopted.is_file():
        echo(read(pipeline, table))
        return
    echo(adopted.read_text(encoding="utf-8"))
    with suppress(NotFoundError):
        echo(f"\n---\n\n{read(pipeline, table)}")

"""Third-party models on this machine: added, pinned, verified, described."""

from __future__ import annotations

import json
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from node.config import Config, PipelineTable
from node.errors import ConfigError, InputError, NotFoundError, WeightsError
from node.inference.plugins import card_of, installed
from node.pipeline import content_digest

FOLDER = "models"
"""Under ``[storage] folder``."""
_METADATA = "configs/metadata.json"
"""What makes a folder or zip file a MONAI Bundle."""
_MARKERS = {_METADATA: "pipelines.monai_bundle:create", "plans.json": "pipelines.nnunet:create"}
"""File that says what kind of model a folder or zip file is, and the factory of that kind."""
_MODEL_FILES = (".onnx", ".pt2", ".ts", ".pt")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as ``[pipelines.NAME]`` refers to it."""

    name: str
    path: Path
    sha256: str
    factory: str


def add(source: str, storage: Path, *, sha256: str | None, name: str | None) -> Model:
    """Copy or download a model into the models folder; complete there or not at all.

    Raises ``InputError`` for what is no model, ``WeightsError`` when the digest is another, ``ConfigError`` for a name
    that is taken and for a download without a digest.
    """
    remote = urlsplit(source).scheme in ("http", "https")
    origin = PurePosixPath(urlsplit(source).path) if remote else Path(source)
    if remote and not sha256:
        raise ConfigError(f"{source}: a download must be pinned; give --sha256 as its author publishes it")
    if not remote and not Path(source).exists():
        raise InputError(f"{source}: no such file or folder; give a model file, a bundle or its URL")
    folder = storage / FOLDER
    called = name or origin.stem
    place = folder / (called + ("" if not remote and Path(source).is_dir() else origin.suffix))
    if place.exists():
        raise ConfigError(f"{place} exists; give another --name, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{uuid.uuid4().hex}{place.suffix}"
    try:
        _fetch_model(source, part, remote=remote)
        digest = content_digest(part)
        if sha256 and digest != sha256.lower():
            raise WeightsError(f"{source} has SHA-256 {digest}, --sha256 says {sha256}; nothing was added")
        model = Model(name=called, path=place, sha256=digest, factory=_factory(part, source))
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    return model


def _fetch_model(source: str, part: Path, *, remote: bool) -> None:
    if not remote:
        shutil.copytree(source, part) if Path(source).is_dir() else shutil.copyfile(source, part)
        return
    try:
        with httpx.stream("GET", source, follow_redirects=True) as answer, part.open("wb") as file:
            answer.raise_for_status()
            for block in answer.iter_bytes():
                file.write(block)
    except httpx.HTTPError as error:
        raise InputError(f"{source}: cannot be fetched ({error}); fetch it elsewhere and add the file") from error


def _factory(path: Path, source: str) -> str:
    names: list[str] = []
    if path.is_dir():
        names = [found.relative_to(path).as_posix() for found in path.rglob("*.json")]
    elif path.suffix == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    elif path.suffix in _MODEL_FILES:
        return "pipelines.model_file:create"
    for marker, factory in _MARKERS.items():
        if any(f"/{name}".endswith(f"/{marker}") for name in names):
            return factory
    raise InputError(
        f"{source}: neither a MONAI Bundle ({_METADATA}) or nnU-Net results (plans.json) as folder or zip, nor a model "
        f"file ({', '.join(_MODEL_FILES)})"
    )


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One line of ``ainode models list``."""

    name: str
    factory: str
    """Empty: a model of the models folder that no pipeline uses."""
    weights: Path | None
    """``None``: the packaged ones."""
    configured: bool


def listed(config: Config) -> tuple[Listed, ...]:
    """Every configured and installed pipeline, and what else lies in the models folder."""
    tables = {name: PipelineTable() for name in installed()} | config.pipelines
    pipelines = tuple(
        Listed(
            name=name,
            factory=table.factory or installed().get(name, ""),
            weights=table.weights,
            configured=name in config.pipelines,
        )
        for name, table in sorted(tables.items())
    )
    folder = config.storage.folder / FOLDER
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    used = {table.weights.resolve() for table in config.pipelines.values() if table.weights}
    return pipelines + tuple(
        Listed(name=path.stem, factory="", weights=path, configured=False)
        for path in there
        if path.resolve() not in used and not path.name.startswith(".")
    )


def verify(config: Config) -> Iterator[tuple[str, Path, str]]:
    """Every configured pipeline that names its weights: name, path and what is wrong (``""``: as pinned)."""
    for name, table in config.pipelines.items():
        if table.weights is None:
            continue
        pin = table.options.get("sha256")
        digest_file = table.weights.with_suffix(".sha256")
        if not pin and digest_file.is_file():
            pin = digest_file.read_text().split()[0]
        if not table.weights.exists():
            yield name, table.weights, "does not exist"
        elif not pin:
            yield (
                name,
                table.weights,
                f"is not pinned; set [pipelines.{name}.options] sha256, or write {digest_file.name} next to it",
            )
        else:
            digest = content_digest(table.weights)
            yield name, table.weights, "" if digest == str(pin).lower() else f"has SHA-256 {digest}, pinned is {pin}"


def card(name: str, table: PipelineTable) -> str:
    """The model card as Markdown: of a bundle its README, of a package its ``MODEL_CARD.md``.

    Raises ``NotFoundError`` when the model brings none, ``WeightsError`` when a bundle's metadata cannot be read.
    """
    if table.weights is not None and table.weights.is_dir():
        for metadata in sorted(table.weights.rglob(_METADATA)):
            try:
                about = dict(json.loads(metadata.read_text()))
            except (OSError, RecursionError, TypeError, ValueError) as error:
                raise WeightsError(
                    f"{metadata}: cannot be read ({error}); give the bundle as its author packs it"
                ) from error
            readme = metadata.parents[1] / "docs" / "README.md"
            facts = [
                f"{key}: {about[key]}"
                for key in ("name", "version", "authors", "copyright", "intended_use")
                if key in about
            ]
            return "\n".join([*facts, "", readme.read_text() if readme.is_file() else ""])
    module = (table.factory or installed().get(name, "")).partition(":")[0]
    page = card_of(module)
    if page is None:
        raise NotFoundError(f"pipeline {name!r} brings no model card; ask its author for one")
    return page.read_text()

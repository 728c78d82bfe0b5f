"""Third-party models on this machine: added, pinned, verified, described."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from node.config import Config, PipelineTable
from node.config.table import Name
from node.errors import ConfigError, InputError, NotFoundError, WeightsError
from node.inference.plugins import card_of, installed
from node.pipeline import content_digest
from node.pipeline.model_content import check_folder, check_limits, member_names
from node.spool.files import new_locked
from node.spool.remove_tree import remove_tree, sweep

FOLDER = "models"
"""Under ``[storage] folder``."""
_METADATA = "configs/metadata.json"
"""What makes a folder or zip file a MONAI Bundle."""
_MARKERS = {_METADATA: "pipelines.monai_bundle:create", "plans.json": "pipelines.nnunet:create"}
"""File that says what kind of model a folder or zip file is, and the factory of that kind."""
_MODEL_FILES = (".onnx", ".pt2", ".ts", ".pt")
_DRAFTS = ".drafts"
"""Below ``FOLDER``: models that are not complete, in a folder of each command that adds one."""
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_OBJECT = TypeAdapter(dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as ``[pipelines.NAME]`` refers to it."""

    name: str
    path: Path
    sha256: str
    factory: str


def add(
    source: str,
    storage: Path,
    *,
    sha256: str | None,
    name: str | None,
    examine: Callable[[Model], None] = lambda _: None,
) -> Model:
    """Copy or download a model into the models folder; complete there or not at all.

    ``examine`` gets the model while it is still a draft; a model for which it raises ``WeightsError`` is not added.

    Raises ``InputError`` for what is no model, ``WeightsError`` when the digest is another or the content is beyond the
    limits of ``node.pipeline.model_content``, ``ConfigError`` for a name that is taken or cannot be a pipeline's, and
    for a download without a digest.
    """
    remote = _is_remote(source)
    origin = Path(urlsplit(source).path if remote else source)
    if remote and not sha256:
        raise ConfigError(f"{source}: a download must be pinned; give --sha256 as its author publishes it")
    called, place = _place(source, storage, name)
    if place.exists():
        raise ConfigError(f"{place} exists; give another --name, or remove it first")
    drafts = storage / FOLDER / _DRAFTS
    drafts.mkdir(parents=True, exist_ok=True)
    sweep(drafts)
    folder, lock = new_locked(drafts)
    try:
        part = folder / place.name
        _download(source, part) if remote else _copy(origin, part)
        digest = content_digest(part)
        if sha256 and digest != sha256.lower():
            raise WeightsError(f"{source} has SHA-256 {digest}, --sha256 says {sha256}; nothing was added")
        model = Model(name=called, path=place, sha256=digest, factory=_factory(part, source))
        try:
            examine(replace(model, path=part))
        except WeightsError as error:
            reason = str(error).replace(str(part), source)
            raise WeightsError(f"{source} was not added: {reason}") from error
        part.rename(place)
    finally:
        remove_tree(folder)
        os.close(lock)
    return model


def stored(source: str, storage: Path, name: str | None) -> Model | None:
    """Return the model that was added from ``source`` before; ``None`` when there is none, or it has other content.

    Raises as ``add`` for what is no model, and for a name that cannot be a pipeline's.
    """
    called, place = _place(source, storage, name)
    if _is_remote(source) or not place.exists() or (digest := content_digest(place)) != content_digest(Path(source)):
        return None
    return Model(name=called, path=place, sha256=digest, factory=_factory(place, source))


def model_name(source: str, name: str | None) -> str:
    """Return the name under which ``add`` takes a model over. Raises as it does."""
    return _place(source, Path(), name)[0]


def _place(source: str, storage: Path, name: str | None) -> tuple[str, Path]:
    """Name of a model, and where it lies after it was added."""
    remote = _is_remote(source)
    origin = Path(urlsplit(source).path if remote else source)
    is_folder = not remote and _is_folder(origin)
    suffix = "" if is_folder else origin.suffix
    if not is_folder and suffix not in (".zip", *_MODEL_FILES):
        raise _no_model(source)
    called = _checked_name(_NO_NAME.sub("_", origin.stem).strip("_-") if name is None else name)
    return called, storage / FOLDER / (called + suffix)


def _is_remote(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


def _is_folder(origin: Path) -> bool:
    if not origin.exists():
        raise InputError(f"{origin}: no such file or folder; give a model file, a bundle or its URL")
    if not origin.is_dir() and not origin.is_file():
        raise InputError(f"{origin}: is neither a file nor a folder; give a model file, a bundle or its URL")
    return origin.is_dir()


def _checked_name(name: str) -> str:
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise ConfigError(
            f"--name {name!r}: give the name of a pipeline: at most 64 letters, digits, '-' and '_', the first one a "
            "letter or digit"
        ) from None


def _copy(source: Path, part: Path) -> None:
    """Copy the content of files alone, not their modes and owners."""
    if source.is_dir():
        check_folder(source, hard_links=False)
        shutil.copytree(source, part, symlinks=True, copy_function=shutil.copyfile)
    else:
        check_limits(source, total=source.stat().st_size)
        shutil.copyfile(source, part)


def _download(source: str, part: Path) -> None:
    try:
        with httpx.stream("GET", source, follow_redirects=True) as answer, part.open("wb") as file:
            answer.raise_for_status()
            for block in answer.iter_bytes():
                check_limits(Path(part.name), total=file.tell() + len(block))
                file.write(block)
    except httpx.HTTPError as error:
        raise InputError(f"{source}: cannot be fetched ({error}); fetch it elsewhere and add the file") from error


def _factory(path: Path, source: str) -> str:
    names: list[str] = []
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*.json")]
    elif path.suffix == ".zip" and zipfile.is_zipfile(path):
        names = member_names(path)
    elif path.suffix in _MODEL_FILES:
        return "pipelines.model_file:create"
    for marker, factory in _MARKERS.items():
        if any(f"/{name}".endswith(f"/{marker}") for name in names):
            return factory
    raise _no_model(source)


def _no_model(source: str) -> InputError:
    return InputError(
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
            yield name, table.weights, "does not exist; `ainode models add SOURCE` puts a model in its place"
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
        check_folder(table.weights, hard_links=True)
        for metadata in sorted(table.weights.rglob(_METADATA)):
            try:
                about = _OBJECT.validate_json(metadata.read_bytes())
            except (OSError, ValueError) as error:
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

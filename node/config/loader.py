"""Parses TOML text into ``Config``; errors name line, key, value and remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from node.config.config import Config
from node.config.source_lines import line_of
from node.config.table import suggest
from node.errors import ConfigError


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the valid keys of the table that contains the unknown key at ``location``."""
    model: Any = Config
    for part in location[:-1]:
        if part not in model.model_fields:
            continue  # an index, or the NAME in [pipelines.NAME]: the element type is already chosen
        annotation: Any = model.model_fields[part].annotation
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = arguments[0] if arguments else annotation
    return list(getattr(model, "model_fields", {}))


def parse(text: str, origin: str = "config.toml") -> Config:
    """Parse and check TOML text. Raises ``ConfigError`` with line, key, value and remedy for every fault found."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    try:
        # Only arrays are converted, to tuples: a port in quotes is reported as a mistake.
        return Config.model_validate(_tuples(table))
    except ValidationError as error:
        faults = [dict(e) for e in error.errors()]
        raise ConfigError("\n".join(f"{origin}{_line(text, e)}: {_sentence(e)}" for e in faults)) from error


def read(path: Path) -> str:
    """Read the text of ``path``. Raises ``ConfigError`` when that fails."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist; run `ainode init` to write a configuration, or give another file with --config"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give another file with --config") from error


def load(path: Path) -> Config:
    """Read and check ``path``. Raises ``ConfigError``."""
    return parse(read(path), str(path))


def _tuples(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: (v if key == "options" else _tuples(v, k)) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _line(text: str, error: dict[str, Any]) -> str:
    number = line_of(text, tuple(error["loc"]))
    return f" line {number}" if number else ""


def _sentence(error: dict[str, Any]) -> str:
    location = tuple(error["loc"])
    where = ".".join(str(p) for p in location)
    if error["type"] == "extra_forbidden":
        hint = suggest(str(location[-1]), _known_keys(location))
        return f"unknown key {where}{hint}; remove it, or see the comments of the shipped config.toml"
    if error["type"] == "missing":
        return f"{where} is missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict) and where:  # its other keys may hold what is secret
        return f"{where}: {message}"
    return f"{where} = {error['input']!r}: {message}" if where else message

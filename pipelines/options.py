"""Validation of the table ``[pipelines.NAME.options]`` of an adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.result_masks import Crop

_AXES = {"L": 0, "R": 0, "A": 1, "P": 1, "H": 2, "F": 2}


def check_orientation(text: str) -> str:
    """Return ``text`` when it names each of the three axes of the patient once; else raise ``ValueError``."""
    if sorted(_AXES.get(letter, -1) for letter in text) != [0, 1, 2]:
        raise ValueError(f'orientation is {text!r}; use one of L/R, A/P and H/F each, such as "HPL"')
    return text


class AdapterOptions(BaseModel):
    """What every model of somebody else is described with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    inputs: list[str] = Field(default_factory=list)
    structures: dict[str, list[str]] = Field(default_factory=dict)
    looked_for: list[str] = Field(default_factory=list)
    crop: Crop | None = None


class ModelOptions(AdapterOptions):
    """What every folder of somebody else's model is described with."""

    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    unpickle: bool = False


def parameters_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Every option as text for ``Algorithm.parameters``: what is not there cannot tell two results apart.

    The digest of the weights has a place of its own. ``crop`` is there where it is used.
    """
    return {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in options.items()
        if name != "sha256" and (name, value) != ("crop", None)
    }


def library(name: str) -> str:
    """Name and version of the installed package that runs a model."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name


Checked = TypeVar("Checked", bound=AdapterOptions)


def read_options(kind: type[Checked], options: Mapping[str, Any]) -> Checked:
    """``options`` as ``kind``. Raises ``ValueError`` with option, value and remedy."""
    try:
        read = kind.model_validate(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        value = "" if fault["type"] == "missing" else f" = {fault['input']!r}"
        place = kind.__module__.rpartition(".")[0]
        raise ValueError(f"option {name}{value}: {fault['msg']}; see {place} for the options") from None
    for name, code in read.structures.items():
        if len(code) != 3:
            raise ValueError(f"option structures.{name} = {code!r}: give [value, scheme, meaning]")
    return read

"""The table ``[pipelines.NAME.options]`` of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Options(BaseModel):
    """Checked options; see the package's text for what they mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    config: str = "inference"
    overrides: dict[str, Any] = Field(default_factory=dict)
    structures: dict[str, list[str]] = Field(default_factory=dict)
    inputs: list[str] = Field(default_factory=list)
    min_score: float = Field(default=0.5, ge=0, le=1)
    unpickle: bool = False


def read_options(options: Mapping[str, Any]) -> Options:
    """Raises ``ValueError`` with option, value and remedy."""
    try:
        read = Options.model_validate(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        value = "" if fault["type"] == "missing" else f" = {fault['input']!r}"
        raise ValueError(f"option {name}{value}: {fault['msg']}; see pipelines/monai_bundle for the options") from None
    for name, code in read.structures.items():
        if len(code) != 3:
            raise ValueError(f"option structures.{name} = {code!r}: give [value, scheme, meaning]")
    return read

"""Base class and types of the tables of ``config.toml``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

AeTitle = Annotated[
    str, StringConstraints(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e]$")
]
"""PS3.5 table 6.2-1 AE: at most 16 characters of the default repertoire, no backslash, no trailing space."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _days(value: Any) -> Any:
    if value == "default" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf):
        return value
    raise PydanticCustomError("days", 'give a number of days, 0 or more, or "default" for that of [retention] days')


KeepDays = Annotated[Literal["default"] | float, BeforeValidator(_days)]
"""How long something is kept; ``"default"``: ``[retention] days``."""


def _path(value: Any) -> Any:
    return (Path(value) if value else None) if isinstance(value, str) else value


OptionalPath = Annotated[Path | None, BeforeValidator(_path)]
"""A path; ``None`` for the empty text."""


_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}
_LONGEST_SECONDS = 86400 * 365 * 100
"""A hundred years; the operating system cannot wait for 300."""
_LARGEST = 1e9


class Table(BaseModel):
    """A frozen table that rejects unknown keys and numbers nothing can count with, and converts no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, int | float):
            unit = (info.field_name or "").rpartition("_")[2]
            most = _LONGEST_SECONDS // _UNITS[unit] if unit in _UNITS else _LARGEST
            if not abs(value) <= most:
                raise PydanticCustomError("countable", "give a number up to {most}", {"most": f"{most:.0f}"})
        return value


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` with the closest known word, or "" if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

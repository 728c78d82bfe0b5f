"""Values that metadata state under one of several keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def text_of(table: Mapping[str, Any], *keys: str) -> str:
    """Return the first of ``keys`` that has a value, as text; empty: none."""
    for key in keys:
        value = table.get(key)
        if isinstance(value, list | tuple):
            value = "; ".join(map(str, value))
        if value not in (None, "", {}):
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ""


def words(*parts: str) -> str:
    """Join what is stated, each once."""
    return "; ".join(dict.fromkeys(filter(None, parts)))


def numbers_of(value: Any, count: int) -> tuple[float, ...]:
    """Return a list of ``count`` numbers; an empty one for anything else."""
    is_list = isinstance(value, list | tuple) and len(value) == count
    if not is_list or not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
        return ()
    return tuple(value)


def in_millimetres(values: Sequence[float], what: str) -> str:
    """Write lengths in words, with what they are; empty: there are none."""
    return f"{' x '.join(f'{float(mm):g}' for mm in values)} mm ({what})" if values else ""


def names_of(value: Any) -> dict[int, str]:
    """Return names by number, of a list or of a table with numbers as keys; without the background."""
    pairs = enumerate(value) if isinstance(value, list | tuple) else value.items() if isinstance(value, dict) else ()
    named = {int(number): str(name) for number, name in pairs if str(number).isdigit()}
    return {number: name for number, name in named.items() if name.strip().lower() not in ("background", "")}

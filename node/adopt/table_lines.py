"""Values, lines and headers of TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def value_text(value: Any) -> str:
    """Write a text, number, truth value, list or table in one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key_text(key)} = {value_text(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def key_text(key: str) -> str:
    """Write a key, in quotes where it needs them."""
    return key if _BARE.fullmatch(key) else value_text(key)


def line_of(key: str, value: Any, comment: str = "") -> str:
    """Write a key with its value, and a comment where there is one."""
    return f"{key_text(key)} = {value_text(value)}" + (f"   # {comment}" if comment else "")


def table_header(*names: str, array: bool = False) -> str:
    """Write the header of a table; ``array``: of a table in an array."""
    path = ".".join(map(key_text, names))
    return f"[[{path}]]" if array else f"[{path}]"

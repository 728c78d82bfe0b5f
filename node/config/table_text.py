"""Values of one table of ``config.toml`` changed in its text, whose comments stay. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping

from node.errors import ConfigError

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?$")


def with_values(text: str, table: str, values: Mapping[str, str]) -> str:
    """Return the file with these strings in ``[table]``, which is added where there is none.

    Raises ``ConfigError`` when the file is written in a way in which they cannot be replaced.
    """
    lines = text.splitlines()
    headers = [(number, match[1]) for number, line in enumerate(lines) if (match := _HEADER.match(line))]
    starts = [number + 1 for number, name in headers if name == table]
    if not starts:
        lines += ["", f"[{table}]"]
    first = starts[0] if starts else len(lines)
    end = next((number for number, _ in headers if number >= first), len(lines))
    block = lines[first:end]
    for key, value in values.items():
        _set(block, key, value)
    changed = "\n".join([*lines[:first], *block, *lines[end:]]) + "\n"
    expected = tomllib.loads(text)
    expected[table] = {**expected.get(table, {}), **values}
    try:
        if tomllib.loads(changed) == expected:
            return changed
    except tomllib.TOMLDecodeError:
        pass
    raise ConfigError(f"[{table}] cannot be changed in the file as it is written; make it a table with a key in a line")


def _set(block: list[str], key: str, value: str) -> None:
    """Replace the line of a key, whose comment keeps its column where possible, or add one before the others."""
    line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    pattern = re.compile(rf"""(\s*{re.escape(key)}\s*=\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^#"']*?)\s*)(#.*)?$""")
    for number, old in enumerate(block):
        if match := pattern.match(old):
            block[number] = f"{line.ljust(len(match[1]) - 1)} {match[2]}" if match[2] else line
            return
    block.insert(0, line)

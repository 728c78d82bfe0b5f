"""A pipeline added to ``shadow`` of rules in the text of ``config.toml``, whose comments stay. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection

from node.errors import ConfigError

_RULE = re.compile(r"\s*\[\[\s*rules\s*\]\]\s*(?:#.*)?$")
_TABLE = re.compile(r"\s*\[")
_PIPELINES = re.compile(r"\s*pipelines\s*=\s*\[[^\]#]*\]\s*(?:#.*)?$")
_SHADOW = re.compile(r"(\s*shadow\s*=\s*\[[^\]#]*?)\s*,?\s*(\]\s*(?:#.*)?)$")


def with_shadow(text: str, rules: Collection[str], pipeline: str) -> str:
    """Return the text with ``pipeline`` in ``shadow`` of the rules of these names, where it is not yet.

    Raises ``ConfigError`` when the rules are written in a way in which they cannot be changed.
    """
    try:
        expected = tomllib.loads(text)
        lines = text.splitlines()
        starts = [number for number, line in enumerate(lines) if _RULE.match(line)]
        for start, rule in reversed([*zip(starts, expected.get("rules", ()), strict=True)]):
            if rule.get("name") in rules and pipeline not in rule.get("shadow", ()):
                _add(lines, start, pipeline, has_shadow="shadow" in rule)
                rule["shadow"] = [*rule.get("shadow", ()), pipeline]
        changed = "\n".join(lines) + "\n"
        if tomllib.loads(changed) == expected:
            return changed
    except (tomllib.TOMLDecodeError, ValueError, AttributeError, TypeError):
        pass
    names = ", ".join(map(repr, rules))
    raise ConfigError(
        f"rule {names} cannot be changed as the file is written; add {pipeline!r} to its shadow on the machine"
    )


def _add(lines: list[str], start: int, pipeline: str, *, has_shadow: bool) -> None:
    """Add the pipeline to the rule whose header is line ``start``."""
    end = next((number for number in range(start + 1, len(lines)) if _TABLE.match(lines[number])), len(lines))
    if not has_shadow:
        sent = next((number for number in range(start + 1, end) if _PIPELINES.match(lines[number])), start)
        lines.insert(sent + 1, f"shadow = [{json.dumps(pipeline)}]")
        return
    for number in range(start + 1, end):
        if match := _SHADOW.match(lines[number]):
            comma = "" if match[1].endswith("[") else ", "
            lines[number] = f"{match[1]}{comma}{json.dumps(pipeline)}{match[2]}"

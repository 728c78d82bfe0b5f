"""The shipped ``config.toml`` with answers filled in. Text in, text out; comments stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError

_HEADER = re.compile(r"^\[+([A-Za-z.]+)\]+", re.MULTILINE)
_EXAMPLES = ("destinations.cloud", "destinations.archive", "destinations.pacs.tls")
Value = str | int | bool | list[str]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What only the administrator knows."""

    title: str
    port: int
    folder: Path
    pacs_title: str
    pacs_host: str
    pacs_port: int
    commitment: bool
    pipelines: tuple[str, ...]
    """Of those in the shipped file."""
    dashboard: bool
    certificate: Path | None = None
    """PEM file; its key and authority lie beside as ``.key`` and ``ca.pem``."""
    tls: bool = False
    """Speak TLS with this certificate; else its paths only stand ready."""


def filled_in(shipped: str, answers: Answers) -> str:
    """``config.toml`` of a new node. Raises ``ConfigError`` when an answer will not do."""
    from node.config import parse

    if unknown := set(answers.pipelines) - set(offered(shipped)):
        raise ConfigError(
            f"pipelines {', '.join(sorted(unknown))}: not shipped; choose of {', '.join(offered(shipped))}"
        )
    ours: dict[str, dict[str, Value]] = {
        "ae": {"title": answers.title, "port": answers.port},
        "storage": {"folder": str(answers.folder)},
        "web": {"enabled": answers.dashboard},
        "destinations.pacs": {
            "title": answers.pacs_title,
            "host": answers.pacs_host,
            "port": answers.pacs_port,
            "commitment": answers.commitment,
        },
    }
    if answers.certificate is not None:
        at = answers.certificate
        ours["ae.tls"] = {
            "enabled": answers.tls,
            "certificate": str(at),
            "key": str(at.with_suffix(".key")),
            "ca": str(at.with_name("ca.pem")),
        }
    starts = [found.start() for found in _HEADER.finditer(shipped)]
    blocks = [shipped[a:b] for a, b in zip(starts, [*starts[1:], len(shipped)], strict=True)]
    kept, rule_kept = [shipped[: starts[0]]], True
    for block in blocks:
        name = _name(block)
        if name == "rules":
            ours["rules"] = {"pipelines": [p for p in _pipelines(block) if p in answers.pipelines]}
            rule_kept = bool(ours["rules"]["pipelines"])
        belongs = rule_kept if name.startswith("rules") else _pipeline_wanted(name, answers.pipelines)
        if belongs and name not in _EXAMPLES:
            kept.append(_with(block, ours.get(name, {})))
    text = "".join(kept)
    parse(text)
    return text


def _name(block: str) -> str:
    found = _HEADER.match(block)
    return found[1] if found else ""


def _pipelines(rule: str) -> list[str]:
    found = re.search(r"^pipelines = (\[.*?\])", rule, re.MULTILINE)
    return list(json.loads(found[1])) if found else []


def _pipeline_wanted(table: str, wanted: tuple[str, ...]) -> bool:
    first, _, rest = table.partition(".")
    return first != "pipelines" or rest.partition(".")[0] in wanted


def _with(block: str, values: Mapping[str, Value]) -> str:
    """The table with other values; the comments stay in their column where they can."""
    for key, value in values.items():
        # Strings, integers, booleans and arrays of strings are written alike in JSON and TOML.
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        pattern = rf'^{key} = (?:"[^"]*"|\[[^\]]*\]|[^\s#]+)( *)(?=#|$)'
        block = re.sub(pattern, lambda found, line=line: line.ljust(len(found[0]) - 1) + " ", block, flags=re.MULTILINE)  # type: ignore[misc]
    return block


def offered(shipped: str) -> list[str]:
    """Pipelines of the shipped file."""
    from node.config import parse

    return list(parse(shipped).pipelines)

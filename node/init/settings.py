"""Fills answers into the text of the shipped ``config.toml`` and keeps its comments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError

_HEADER = re.compile(r"^\[+([A-Za-z.]+)\]+", re.MULTILINE)
_EXAMPLES = (
    "destinations.cloud",
    "destinations.archive",
    "destinations.ris",
    "destinations.ris.message",
    "destinations.ehr",
    "destinations.pacs.tls",
    "pipelines.nodule.stop",
    "dicomweb.clients.vna",
    "procedures.lung-nodules",
)
Value = str | int | bool | list[str]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers of the administrator."""

    title: str
    port: int
    folder: Path
    pacs_title: str
    pacs_host: str
    pacs_port: int
    commitment: bool
    language: str
    """Of the reports that the PACS gets."""
    pipelines: tuple[str, ...]
    """Names of pipelines in the shipped file."""
    dashboard: bool
    certificate: Path | None = None
    """PEM file; its key (``.key``) and authority (``ca.pem``) are in the same folder."""
    tls: bool = False
    """Enable TLS with this certificate; otherwise only its paths are entered."""
    viewer_url: str = ""
    """Of a viewer that opens studies; empty: the shipped value stays."""


def filled_in(shipped: str, answers: Answers) -> str:
    """Return ``config.toml`` of a new node. Raises ``ConfigError`` when an answer is invalid."""
    from node.config import parse

    if unknown := set(answers.pipelines) - set(offered(shipped)):
        raise ConfigError(
            f"pipelines {', '.join(sorted(unknown))}: not shipped; choose from {', '.join(offered(shipped))}"
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
            "language": answers.language,
        },
    }
    if answers.viewer_url:
        ours["web"]["viewer_url"] = answers.viewer_url
    if answers.certificate is not None:
        at = answers.certificate
        ours["ae.tls"] = {
            "enabled": answers.tls,
            "certificate": str(at),
            "key": str(at.with_suffix(".key")),
            "ca": str(at.with_name("ca.pem")),
        }
    starts = [match.start() for match in _HEADER.finditer(shipped)]
    blocks = [shipped[a:b] for a, b in zip(starts, [*starts[1:], len(shipped)], strict=True)]
    blocks_kept, keep_rule = [shipped[: starts[0]]], True
    for block in blocks:
        name = _name(block)
        if name == "rules":
            ours["rules"] = {"pipelines": [p for p in _pipelines(block) if p in answers.pipelines]}
            keep_rule = bool(ours["rules"]["pipelines"])
        belongs = keep_rule if name.startswith("rules") else _pipeline_wanted(name, answers.pipelines)
        if belongs and name not in _EXAMPLES:
            blocks_kept.append(_with(block, ours.get(name, {})))
    text = "".join(blocks_kept)
    parse(text)
    return text


def _name(block: str) -> str:
    match = _HEADER.match(block)
    return match[1] if match else ""


def _pipelines(rule: str) -> list[str]:
    match = re.search(r"^pipelines = (\[.*?\])", rule, re.MULTILINE)
    return list(json.loads(match[1])) if match else []


def _pipeline_wanted(table: str, wanted: tuple[str, ...]) -> bool:
    first, _, rest = table.partition(".")
    return first != "pipelines" or rest.partition(".")[0] in wanted


def _with(block: str, values: Mapping[str, Value]) -> str:
    """Replace values in a table; comments keep their column where possible."""
    for key, value in values.items():
        # Strings, integers, booleans and arrays of strings are written alike in JSON and TOML.
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        pattern = rf'^{key} = (?:"[^"]*"|\[[^\]]*\]|[^\s#]+)( *)(?=#|$)'
        block = re.sub(pattern, lambda match, line=line: line.ljust(len(match[0]) - 1) + " ", block, flags=re.MULTILINE)  # type: ignore[misc]
    return block


def offered(shipped: str) -> list[str]:
    """Return the names of the pipelines in the shipped file."""
    from node.config import parse

    return list(parse(shipped).pipelines)

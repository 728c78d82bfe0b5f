"""What the machines of a fleet should have in common of ``config.toml``, as a digest of each table."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from node.config.config import Config
from node.config.rules_text import FILE_KEYS

SHARED = (
    "rules", "procedures", "destinations", "pipelines", "series", "jobs", "retention", "records", "feedback",
    "deidentify", "notify", "trace", "audit",
)  # fmt: skip
"""Tables that decide what becomes of a study, and whom the node tells. The others are of one machine."""
_CHARACTERS = 12


def shared_digests(config: Config) -> dict[str, str]:
    """Beginning of a SHA-256 of each shared table, defaults included; names of files, which are a machine's own, not.

    A table that is empty, such as ``destinations`` without any, has one as well.
    """
    tables = config.model_dump(mode="json")
    return {name: _digest(tables[name]) for name in SHARED}


def _digest(value: Any) -> str:
    text = json.dumps(_without_files(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_CHARACTERS]


def _without_files(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_files(one) for key, one in value.items() if not _is_file(key)}
    return [_without_files(one) for one in value] if isinstance(value, list) else value


def _is_file(key: str) -> bool:
    return key in FILE_KEYS or key == "file" or key.endswith("_file")

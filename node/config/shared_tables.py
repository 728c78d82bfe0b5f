"""What the machines of a fleet should have in common of ``config.toml``, as a digest of each table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from node.config.config import Config
from node.config.rules_text import FILE_KEYS

SHARED = (
    "rules", "procedures", "destinations", "pipelines", "series", "jobs", "retention", "records", "feedback",
    "deidentify", "notify", "trace", "audit",
)  # fmt: skip
"""Tables that decide what becomes of a study, and whom the node tells. The others are of one machine."""
_CHARACTERS = 12


def shared_digests(config: Config) -> dict[str, str]:
    """Beginning of a SHA-256 of each shared table: of what is not the default and names no file of the machine."""
    return {name: _digest(getattr(config, name)) for name in SHARED}


def _digest(value: object) -> str:
    text = json.dumps(to_jsonable_python(_shared(value)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_CHARACTERS]


def _shared(value: object) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        values = {key: getattr(value, key) for key in fields} | (value.model_extra or {})
        return {
            key: _shared(one)
            for key, one in values.items()
            if not _is_file(key, one)
            and (key not in fields or one != fields[key].get_default(call_default_factory=True))
        }
    if isinstance(value, dict):
        return {key: _shared(one) for key, one in value.items()}
    return [_shared(one) for one in value] if isinstance(value, (list, tuple)) else value


def _is_file(key: str, value: object) -> bool:
    return isinstance(value, Path) or key in FILE_KEYS or key == "file" or key.endswith("_file")

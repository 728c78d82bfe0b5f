"""``[deidentify]``: the key of all pseudonyms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from node.config.table import Table


class Deidentify(Table):
    """What destinations with ``deidentify`` have in common."""

    key_file: Path | None = None
    """Key of pseudonyms, UIDs and shifted dates (32 bytes, hexadecimal); absent: ``deidentify-key`` in the storage
    folder."""

    @field_validator("key_file", mode="before")
    @classmethod
    def _key_file(cls, value: Any) -> Any:
        return (Path(value) if value else None) if isinstance(value, str) else value

"""``[records]``: what is kept of each study for years."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from node.config.table import Table


class Records(Table):
    """Decision records: what was received, decided, analysed and sent, without names of patients."""

    years: Annotated[float, Field(ge=0)] = 10.0
    """Keep a record this long after it was written; 0: record nothing."""
    key_file: Path | None = None
    """Private key that signs the records (32 bytes, hexadecimal); absent: ``records-key`` in the storage folder."""

    @field_validator("key_file", mode="before")
    @classmethod
    def _key_file(cls, value: Any) -> Any:
        return (Path(value) if value else None) if isinstance(value, str) else value

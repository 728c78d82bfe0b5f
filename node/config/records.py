"""``[records]``: what is kept of each study for years."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from node.config.table import OptionalPath, Table


class Records(Table):
    """Decision records: what was received, decided, analysed and sent, without names of patients."""

    years: Annotated[float, Field(ge=0)] = 10.0
    """Keep a record this long after it was written; 0: record nothing."""
    key_file: OptionalPath = None
    """Private key that signs the records (32 bytes, hexadecimal); absent: ``records-key`` in the storage folder."""

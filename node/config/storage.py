"""``[storage]`` and ``[retention]``: where files live and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from node.config.table import Table


class Storage(Table):
    """Where files and ledger live."""

    folder: Path = Path("/var/lib/ainode")
    """Root of spool, results and (for SQLite) the ledger. One file system, so that renames are atomic."""
    min_free_gib: Annotated[float, Field(ge=0)] = 10.0
    """Below this much free space images are refused with status A700 (Out of Resources): the rest is for results."""
    durability: Literal["full", "process"] = "full"
    """What a Success for an image survives. ``full``: a power cut, file and folder are synced before it. ``process``:
    a crash or kill of the node, but not of the machine. Results and the ledger are always synced."""
    ledger_url: str = ""
    """``postgresql://user@host/database`` to share the work between machines; empty: SQLite in ``folder``."""

    @field_validator("folder", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value


class Retention(Table):
    """When files that nobody is owed are deleted."""

    days: Annotated[float, Field(ge=0)] = 14.0
    """Images and results of a study are deleted this long after its last event, when everything due was delivered."""

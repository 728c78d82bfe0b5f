"""``[storage]`` and ``[retention]``: location and lifetime of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from node.config.object_store import ObjectStoreTable
from node.config.table import KeepDays, Table


class Storage(Table):
    """Location of files and ledger."""

    folder: Path = Path("/var/lib/ainode")
    """Root of spool, results and (for SQLite) the ledger. One file system, so that renames are atomic."""
    min_free_gib: Annotated[float, Field(ge=0)] = 10.0
    """With less free space images are refused with status A700 (Out of Resources); the rest is for results."""
    durability: Literal["full", "process"] = "full"
    """What an acknowledged image survives. ``full``: a power cut; file and folder are synced first. ``process``: a
    crash of the node, but not of the machine. Results and the ledger are always synced."""
    copies: Literal[1, 2] = 1
    """Machines on which an image is durable before it is acknowledged; 2 needs ``[fleet]``."""
    copies_missing: Literal["refuse", "accept"] = "refuse"
    """What happens to an image for which no other machine can hold the second copy. ``refuse``: status A700.
    ``accept``: it is acknowledged with one copy, an alert says so, and the second one is made as soon as possible."""
    max_instance_gib: Annotated[float, Field(gt=0)] = 8.0
    """Largest instance that is received; a larger one is refused with status C000, as one beyond the next limits."""
    max_header_mib: Annotated[float, Field(gt=0)] = 256.0
    """Most bytes of one instance outside its pixel data, after inflation."""
    max_inflated_mib: Annotated[float, Field(gt=0)] = 512.0
    """Largest data set after inflation, in the deflated transfer syntax."""
    max_elements: Annotated[int, Field(ge=1000)] = 1_000_000
    """Most elements, sequence items and fragments of pixel data of one instance."""
    ledger_url: str = ""
    """``postgresql://user@host/database`` to share work between machines; empty: SQLite in ``folder``."""
    object_store: ObjectStoreTable = ObjectStoreTable()

    @field_validator("folder", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value

    @property
    def needs_second_copy(self) -> bool:
        """Whether an image is refused that no other machine can hold as well."""
        return self.copies > 1 and self.copies_missing == "refuse"


class Retention(Table):
    """Deletion of delivered studies by age."""

    days: Annotated[float, Field(ge=0)] = 14.0
    """Delete a study this many days after its last event; undelivered data is always kept."""
    unmatched_days: KeepDays = "default"
    """Delete the images of a series that no rule matches this many days after the last event of its study."""

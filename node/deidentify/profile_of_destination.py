"""How a destination gets its objects, and what they are called there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Identity:
    """UIDs of a de-identified object."""

    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a destination gets its objects."""

    key: bytes
    """Of the node."""
    destination: str
    options: tuple[str, ...]

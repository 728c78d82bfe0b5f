"""What is asked of the process that de-identifies, which alone imports the tables of the standard: senders do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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


def deidentify_file(path: Path, profile: Profile, to: Path, *, is_result: bool) -> Identity:
    """De-identify the object at ``path``; see ``node.deidentify.files``."""
    from node.deidentify import files

    return files.deidentify_file(path, profile, to, is_result=is_result)

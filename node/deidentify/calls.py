"""What is asked of the process that de-identifies, which alone imports the tables of the standard: senders do not."""

from __future__ import annotations

from pathlib import Path

from node.deidentify.profile_of_destination import Identity, Profile
from node.deidentify.source_images import SourceImage


def deidentify_file(
    path: Path, profile: Profile, to: Path, series: tuple[SourceImage, ...] = (), *, is_result: bool
) -> Identity:
    """De-identify the object at ``path``; see ``node.deidentify.files``."""
    from node.deidentify import files

    return files.deidentify_file(path, profile, to, series, is_result=is_result)

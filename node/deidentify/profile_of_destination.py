"""How a destination gets its objects, and what they are called there."""

from __future__ import annotations

from dataclasses import dataclass

VISUAL_FEATURES = "clean recognizable visual features"
"""The option for which an object needs the other images of its series."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """UIDs of a de-identified object."""

    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True)
class PixelMask:
    """Areas with burned-in text in the images of one device; see ``node.config.deidentify.DeviceMask``."""

    manufacturer: str
    model: str
    rows: int
    columns: int
    areas: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a destination gets its objects."""

    key: bytes
    """Of the node."""
    destination: str
    options: tuple[str, ...]
    masks: tuple[PixelMask, ...] = ()
    """Of all devices that have some."""
    read_text: bool = False
    """Whether images are searched for text, which are not sent then."""

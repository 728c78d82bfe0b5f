"""``[deidentify]``: the key of all pseudonyms, and where images of a device have text burned in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from node.config.table import OptionalPath, Table

Area = tuple[int, int, int, int]
"""Left, top, width and height in pixels; the first column and the first row are 0."""


class DeviceMask(Table):
    """One entry of ``[[deidentify.masks]]``: areas of the images of a device that are blanked before they are sent."""

    manufacturer: Annotated[str, Field(min_length=1)]
    """Manufacturer (0008,0070), with ``*`` and ``?`` as in rules."""
    model: Annotated[str, Field(min_length=1)]
    """Manufacturer's Model Name (0008,1090), likewise."""
    rows: Annotated[int, Field(ge=1)]
    """Of the images; others keep their refusal."""
    columns: Annotated[int, Field(ge=1)]
    areas: Annotated[tuple[Area, ...], Field(min_length=1)]
    """What is blanked, in every frame."""

    @model_validator(mode="after")
    def _is_inside(self) -> DeviceMask:
        for area in self.areas:
            left, top, width, height = area
            inside = min(left, top) >= 0 and left + width <= self.columns and top + height <= self.rows
            if min(width, height) < 1 or not inside:
                raise ValueError(
                    f"area {list(area)} is not within {self.columns} columns and {self.rows} rows; "
                    "give left, top, width and height in pixels"
                )
        return self


class Deidentify(Table):
    """What destinations with ``deidentify`` have in common."""

    key_file: OptionalPath = None
    """Key of pseudonyms, UIDs and shifted dates (32 bytes, hexadecimal); absent: ``deidentify-key`` in the storage
    folder."""
    read_text: bool = False
    """Search images of other modalities than CT, MR, PT and NM, and what is left beside masks, for text in the pixels;
    where some is read, the image is not sent."""
    masks: tuple[DeviceMask, ...] = ()
    """Devices whose burned-in text is blanked; their images are sent then."""

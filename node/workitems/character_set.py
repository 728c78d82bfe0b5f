"""The character set of data sets that the node makes."""

from __future__ import annotations

from pydicom.dataset import Dataset


def declare_character_set(dataset: Dataset) -> None:
    """Name UTF-8 as the character set of a data set that has more than ASCII."""
    if not str(dataset.to_json_dict()).isascii():
        dataset.SpecificCharacterSet = "ISO_IR 192"

"""Items of a TID 1500 report, read back from the object itself."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

MEASUREMENT_GROUP = "125007"
"""Code value of DCM (PS3.16 TID 1410, 1411)."""


def measurement_groups(item: Dataset) -> Iterator[Dataset]:
    """Yield the measurement groups below an item, in the order of the report."""
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") == "CONTAINER" and concept_value(child) == MEASUREMENT_GROUP:
            yield child
        else:
            yield from measurement_groups(child)


def is_border(region: Dataset) -> bool:
    """Whether an image region is the whole image: the place of what has none."""
    data = [float(value) for value in region.get("GraphicData") or ()]
    return len(data) == 10 and data == [0, 0, data[2], 0, data[2], data[5], 0, data[5], 0, 0]


def concept_value(item: Dataset) -> str:
    """Return the code value of the concept name of an item; empty when it has none."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""

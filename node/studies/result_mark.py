"""The mark by which a node recognises the results of any AI node, including its own."""

from __future__ import annotations

from pydicom import Dataset

from node import MAKER, SOFTWARE
from node.studies.attribute_values import values_of


def result_mark(header: Dataset) -> str:
    """Return the attribute that marks an object as a result of an AI node; "" for all other objects.

    Each is enough: archives that rewrite UIDs, patient and institution leave the equipment, some of them not all of it.
    What others made of a result names this equipment among the contributing, and is no image to analyse either.
    """
    for path in ("Manufacturer", "ContributingEquipmentSequence.Manufacturer"):
        if any(value.casefold() == MAKER.casefold() for value in values_of(header, path)):
            return path
    for path in ("SoftwareVersions", "ContributingEquipmentSequence.SoftwareVersions"):
        if any(value.casefold().startswith(f"{SOFTWARE} ") for value in values_of(header, path)):
            return path
    return ""

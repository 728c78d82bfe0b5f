"""Pictures, lines and surfaces at places of an object where nothing looks for text or faces: they do not leave.

An image may hold other images in items of any sequence, and surfaces, contours or waveforms that belong into other
objects. What stays is bulk data (VRs OB to OW) and what is drawn at the places that the IOD has for it (PS3.3 annex A),
such as the pixel data itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import DataElement, Dataset
from pydicom.tag import BaseTag

from node.deidentify.profile import vr_of
from node.results.iod import is_current, places_of

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Has what any image has; in the place of retired classes, whose IODs the standard has no longer."""
_TABLES = {"LUTData"}
"""Values for values, also where an IOD has none."""
_DRAWN = {"ContourData", "GraphicData", "GraphicAnnotationSequence"}
"""Lines, which may be letters or a face. PS3.15 table E.1-1 replaces the sequence (D); the IOD of no image needs it."""


def remove_misplaced(dataset: Dataset) -> None:
    """Remove bulk data and lines that stand where the IOD of the object has none."""
    for item, tag in [*misplaced(dataset)]:
        del item[tag]


def misplaced(dataset: Dataset) -> Iterator[tuple[Dataset, BaseTag]]:
    """Yield the data sets, the object itself or items in it, and the tags of what the IOD has not there."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    places = places_of(sop_class if is_current(sop_class) else _SECONDARY_CAPTURE)
    yield from _misplaced(dataset, (), places)


def _misplaced(
    dataset: Dataset, path: tuple[str, ...], places: frozenset[tuple[str, ...]]
) -> Iterator[tuple[Dataset, BaseTag]]:
    for element in dataset:
        is_again = path[-1:] == (element.keyword,)  # content items within content items, of any depth
        place = path if is_again else (*path, element.keyword)
        is_sought = element.keyword in _DRAWN or (_is_bulk(element) and element.keyword not in _TABLES)
        if is_sought and place not in places:
            yield dataset, element.tag
        elif element.VR == "SQ":
            for item in element.value:
                yield from _misplaced(item, place, places)


def _is_bulk(element: DataElement) -> bool:
    """Whether an attribute has bulk data, by the standard or as it is written."""
    return any(vr.startswith("O") for vr in (element.VR, *vr_of(element.tag).split(" or ")))

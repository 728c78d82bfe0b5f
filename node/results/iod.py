"""Attributes that the modules of an IOD require (PS3.3; the tables come with highdicom)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from highdicom._standard_utils import (
    AttributeTypeValues,
    construct_module_tree,
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

_REQUIRED = AttributeTypeValues.REQUIRED
_BY_VALUE_TYPE = "sr-document-content"  # what it requires depends on the Value Type: gate_report looks at it
_EMPTY_ALLOWED = AttributeTypeValues.REQUIRED_EMPTY_IF_UNKNOWN


def iod_faults(dataset: Dataset) -> Iterator[str]:
    """Attributes of type 1 that are missing or empty and of type 2 that are missing, in the mandatory modules."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class not in get_sop_class_iod_map():
        yield f"SOPClassUID {sop_class!r} is no storage class of the standard"
        return
    for module, required in _mandatory(sop_class):
        yield from (f"{module}: {fault}" for fault in _missing(dataset, required, ""))


@cache
def _mandatory(sop_class: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    modules = get_iod_module_map()[get_sop_class_iod_map()[sop_class]]
    return tuple(
        (m["key"], construct_module_tree(m["key"])["attributes"])
        for m in modules
        if m["usage"] == "M" and m["key"] != _BY_VALUE_TYPE
    )


def required_of(sop_class: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Mandatory modules of an IOD, each with its keywords of type 1 and of type 2: what ``iod_faults`` looks for."""
    for module, attributes in _mandatory(sop_class):
        first = [keyword for keyword, attribute in attributes.items() if attribute["type"] == _REQUIRED]
        second = [keyword for keyword, attribute in attributes.items() if attribute["type"] == _EMPTY_ALLOWED]
        yield module, first, second


def is_current(sop_class: str) -> bool:
    """Whether the standard still has this storage class; highdicom knows no retired one."""
    return sop_class in get_sop_class_iod_map()


@cache
def attributes_of(sop_class: str) -> frozenset[str]:
    """Keywords that stand at the top level of an IOD, in any of its modules."""
    return frozenset(place[0] for place in places_of(sop_class) if len(place) == 1)


@cache
def places_of(sop_class: str) -> frozenset[tuple[str, ...]]:
    """Attributes of an IOD, in any of its modules: keywords of the sequences around each, then its own."""
    modules = get_iod_module_map()[get_sop_class_iod_map()[sop_class]]
    tables = get_module_attribute_map()
    return frozenset((*map(str, a["path"]), str(a["keyword"])) for m in modules for a in tables[m["key"]])


def fill_type_2(dataset: Dataset) -> None:
    """Add missing type 2 attributes as empty; scanners often leave them out."""
    for _, required in _mandatory(str(dataset.SOPClassUID)):
        for keyword, attribute in required.items():
            if attribute["type"] == _EMPTY_ALLOWED and keyword not in dataset:
                setattr(dataset, keyword, None)


def _missing(dataset: Dataset, attributes: dict[str, Any], path: str) -> Iterator[str]:
    for keyword, attribute in attributes.items():
        tag = tag_for_keyword(keyword)  # pydicom does not know every attribute of the tables
        present = tag is not None and tag in dataset
        # a functional group macro stands either in the shared or in the per-frame item (PS3.3 C.7.6.16)
        optional = path.endswith("FunctionalGroupsSequence.")
        if attribute["type"] in (_REQUIRED, _EMPTY_ALLOWED) and not present and not optional:
            yield f"{path}{keyword} is missing"
        elif not present:
            continue
        elif attribute["type"] == _REQUIRED and dataset[keyword].is_empty:
            yield f"{path}{keyword} is empty"
        elif "attributes" in attribute and dataset[keyword].VR == "SQ":
            for item in dataset[keyword].value:
                yield from _missing(item, attribute["attributes"], f"{path}{keyword}.")

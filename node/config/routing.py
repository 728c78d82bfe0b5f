"""``[[rules]]`` and ``[destinations.NAME]``: what happens to a series, and where its results go."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from node.config.table import AeTitle, Name, Port, Table, suggest

Outcome = Literal["findings", "no findings", "partial", "derived", "not applicable", "failed"]
ObjectKind = Literal["seg", "sr", "derived"]
DEFAULT_OBJECTS: tuple[ObjectKind, ...] = ("seg", "sr", "derived")

NUMERIC_VRS = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
NUMBER_OR_RANGE = re.compile(rf"\s*({_NUMBER})\s*(?:(-)\s*({_NUMBER})?\s*)?")
"""A number, ``low-high`` or ``low-``; groups: first number, dash, second number."""


class Destination(Table):
    """A Storage SCP that gets results."""

    title: AeTitle
    """Its AE title."""
    host: str
    """Its name or address."""
    port: Port
    """Its DICOM port."""
    commitment: bool = False
    """Ask for Storage Commitment; only its answer makes a delivery *confirmed*."""
    commitment_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Ask again when the answer does not arrive within this time."""
    outcomes: tuple[Outcome, ...] = ("findings", "no findings", "partial", "derived", "not applicable", "failed")
    """Outcomes whose objects are sent here."""
    objects: tuple[ObjectKind, ...] = DEFAULT_OBJECTS
    """Kinds of objects that are sent here."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled each time."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest delay between two attempts; there is no last attempt."""

    @property
    def kinds(self) -> frozenset[str]:
        """``objects`` as ``node.results`` makes them: the report is the one on the segmentation that goes with it."""
        report = "sr" if "seg" in self.objects else "sr alone"
        return frozenset(report if kind == "sr" else kind for kind in self.objects)


class Rule(Table):
    """Series that match every condition go through the pipelines; their results to the destinations."""

    name: str
    """Shown in traces and reports."""
    match: dict[str, str | int | float | list[str | int | float]] = Field(default_factory=dict)
    """Attribute keyword -> value, list, wildcard (``*`` ``?``) or range (``1.0-3.0``), as in PS3.4 C.2.2.2."""
    pipelines: tuple[Name, ...]
    """Names of ``[pipelines.NAME]``."""
    destinations: tuple[Name, ...]
    """Names of ``[destinations.NAME]``."""
    priority: Literal["low", "medium", "high"] = "medium"
    """Order in the queues; a STAT request (0074,1200 HIGH or 0040,1003 STAT) counts as high."""

    @field_validator("match")
    @classmethod
    def _keywords_exist(cls, match: dict[str, Any]) -> dict[str, Any]:
        for keyword, wanted in match.items():
            if tag_for_keyword(keyword) is None:
                hint = suggest(keyword, keyword_dict)
                raise ValueError(f"{keyword!r} is no DICOM attribute keyword{hint}; see PS3.6")
            if dictionary_VR(keyword) in NUMERIC_VRS:
                for option in wanted if isinstance(wanted, list) else [wanted]:
                    if option != "*" and not NUMBER_OR_RANGE.fullmatch(str(option)):
                        raise ValueError(f"{keyword} = {option!r}: give a number, or a range such as '1.0-3.0' or '2-'")
        return match

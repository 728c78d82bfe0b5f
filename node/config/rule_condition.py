"""Conditions of rules: which values of one DICOM attribute, or of a characteristic, match; see docs/rules.md.

Single value, list, wildcard and range as in PS3.4 C.2.2.2, and regular expressions. Unlike a query, a match ignores
case and full or half width of letters: scanners do not agree on them, and a series missed for its case is a patient
missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import time
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated
from unicodedata import normalize

import re2
from pydantic import AfterValidator
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword
from pydicom.tag import BaseTag, Tag

from node.config.characteristics import CHARACTERISTICS, UNKNOWN
from node.config.order_values import ORDER_PRIORITIES, ORDER_VALUES, PREFIX
from node.config.table import suggest

Option = str | int | float
Test = Callable[[str], bool]

NUMERIC_VRS = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
_TIME_VRS = frozenset({"DA", "TM", "DT"})
_PATTERN = "re:"
_ANY = frozenset({"", "*", "?*"})
"""Options for every attribute: absent or empty, everything, any value."""
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_NUMBER_OR_RANGE = re.compile(rf"\s*({_NUMBER})\s*(?:(-)\s*({_NUMBER})?\s*)?")
_TIME_OR_RANGE = re.compile(r"\s*([\d.:]*)\s*(?:(-)\s*([\d.:]*)\s*)?")
_AGE_OR_RANGE = re.compile(r"\s*(\d{1,3}[DWMY])?\s*(?:(-)\s*(\d{1,3}[DWMY])?\s*)?")
_AGE_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
_PRIVATE_TAG = re.compile(r"([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_PATIENT = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PregnancyStatus"})
"""Attributes of group 0010 that do not identify the patient."""
_NUMBERS_OF_A_CASE = frozenset(
    {"AccessionNumber", "StudyID", "AdmissionID", "RequestedProcedureID", "ScheduledProcedureStepID"}
    | {"PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest", "PersonAddress"}
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Values that match one attribute; created by ``parse_condition``."""

    path: str
    """Keyword, keywords of sequences and attribute joined by ``.``, ``gggg,eeee`` of a private attribute, or the name
    of a characteristic."""
    wanted: tuple[Option, ...]
    tags: tuple[BaseTag, ...]
    """Tags of the path: sequences first, the attribute last; none of a characteristic or of an order."""
    tests: tuple[Test, ...]
    """One test for each of ``wanted``; its argument is a value as text, ``""`` for an absent or empty attribute."""

    def matches(self, values: Iterable[str]) -> bool:
        """Return whether any of the values matches."""
        return any(test(value) for value in values for test in self.tests)

    @property
    def identifies(self) -> bool:
        """Whether the value may identify the patient and must not be shown."""
        if not self.tags:
            return False
        tag = self.tags[-1]
        keyword = keyword_for_tag(tag)
        if tag.is_private or keyword in _NUMBERS_OF_A_CASE or dictionary_VR(tag) == "PN":
            return True
        return (tag.group == 0x0010 and keyword not in _PATIENT) or tag.group == 0x0038


@lru_cache(maxsize=4096, typed=True)  # the router repeats it every second while a series waits
def parse_condition(path: str, wanted: Option | tuple[Option, ...]) -> Condition:
    """Validate and compile one condition. Raises ``ValueError`` with path, value and remedy."""
    options = wanted if isinstance(wanted, tuple) else (wanted,)
    if not options:
        raise ValueError(f"{path} = []: give at least one value; '*' takes everything")
    if path in CHARACTERISTICS:
        tests = tuple(_characteristic_test(path, str(option)) for option in options)
        return Condition(path=path, wanted=options, tags=(), tests=tests)
    if path.startswith(PREFIX):
        return Condition(path=path, wanted=options, tags=(), tests=tuple(_order_test(path, o) for o in options))
    tags = _tags(path)
    vr = "" if tags[-1].is_private else dictionary_VR(tags[-1])
    return Condition(path=path, wanted=options, tags=tags, tests=tuple(_test(path, o, vr) for o in options))


def _checked_hours(text: str) -> str:
    if text:
        parse_hours(text)
    return text


Hours = Annotated[str, AfterValidator(_checked_hours)]
"""A span of the day such as ``"22:00-06:00"``; empty: any time."""


def is_in_hours(text: str, at: time) -> bool:
    """Whether a time of day is within ``"22:00-06:00"``. Raises ``ValueError``."""
    begin, end = parse_hours(text)
    return begin <= at < end if begin < end else at >= begin or at < end


def parse_hours(text: str) -> tuple[time, time]:
    """Parse ``"22:00-06:00"`` into begin and end. Raises ``ValueError``."""
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError("give a span of the day such as '22:00-06:00'")
    begin, end = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
    if begin == end:
        raise ValueError("begin and end are equal; leave hours out for the whole day")
    return begin, end


def _tags(path: str) -> tuple[BaseTag, ...]:
    tags = []
    parts = path.split(".")
    for number, part in enumerate(parts):
        if (numbers := _PRIVATE_TAG.fullmatch(part)) is not None:
            tag = Tag(int(numbers[1], 16), int(numbers[2], 16))
            if not tag.is_private:
                keyword = keyword_for_tag(tag) if dictionary_has_tag(tag) else ""
                raise ValueError(f"{path!r}: {part} is no private attribute; write {keyword or 'its keyword'}")
        else:
            known = tag_for_keyword(part)
            if known is None:
                hint = suggest(part, (*keyword_dict, *CHARACTERISTICS, *ORDER_VALUES))
                raise ValueError(f"{part!r} is no DICOM attribute keyword{hint}; see PS3.6")
            tag = Tag(known)
            is_sequence, is_last = dictionary_VR(tag) == "SQ", number == len(parts) - 1
            if is_sequence and is_last:
                raise ValueError(f"{path!r} is a sequence; name an attribute of its items: '{path}.CodeValue'")
            if not is_sequence and not is_last:
                raise ValueError(f"{path!r}: {part} is no sequence; write '{part}'")
        tags.append(tag)
    return tuple(tags)


def _test(path: str, option: Option, vr: str) -> Test:
    """Create the test for one wanted value; ``vr`` is ``""`` for a private attribute."""
    text = str(option)
    if text.startswith(_PATTERN):
        return _pattern(path, text.removeprefix(_PATTERN))
    if text in _ANY:
        return _wildcard(text)
    if vr in NUMERIC_VRS or (not vr and not isinstance(option, str)):
        return _number(path, text)
    if vr in _TIME_VRS:
        return _date_or_time(path, text)
    if vr == "AS":
        return _age(path, text)
    return _wildcard(text)


def _characteristic_test(name: str, text: str) -> Test:
    """Create the test for one wanted value of a characteristic."""
    known = CHARACTERISTICS[name]
    if not known and text != UNKNOWN:
        return _number(name, text)
    if text not in (*known, UNKNOWN):
        values = ", ".join(map(repr, (*known, UNKNOWN)))
        raise ValueError(f"{name} = {text!r}{suggest(text, known)}: give one of {values}")
    return lambda value: value == text


def _order_test(path: str, option: Option) -> Test:
    """Create the test for one wanted value of an order."""
    if path not in ORDER_VALUES:
        raise ValueError(
            f"{path!r} is nothing that orders have{suggest(path, ORDER_VALUES)}: {', '.join(ORDER_VALUES)}"
        )
    text = str(option)
    if path == "order.priority" and not (text in (*_ANY, *ORDER_PRIORITIES) or text.startswith(_PATTERN)):
        known = ", ".join(map(repr, ORDER_PRIORITIES))
        raise ValueError(f"{path} = {text!r}{suggest(text, ORDER_PRIORITIES)}: give one of {known}")
    return _test(path, text, "LO")


def _pattern(path: str, text: str) -> Test:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        # RE2 matches in time linear in the value: no pattern, however careless, can stop the router.
        compiled = re2.compile(normalize("NFKC", text), options)
    except re2.error as error:
        fault = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise ValueError(f"{path} = {_PATTERN + text!r}: {fault}; write a regular expression of RE2") from None
    return lambda value: compiled.search(normalize("NFKC", value).encode("utf-8", "replace").decode()) is not None


def _wildcard(text: str) -> Test:
    pattern = folded(text).replace("[", "[[]")
    return lambda value: fnmatchcase(folded(value), pattern)


def folded(text: str) -> str:
    """Return ``text`` in the form in which values are compared (Unicode compatibility caseless match, D145)."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def _number(path: str, text: str) -> Test:
    bounds = _NUMBER_OR_RANGE.fullmatch(text)
    if bounds is None:
        raise ValueError(f"{path} = {text!r}: give a number, or a range such as '1.0-3.0' or '2-'")
    first, dash, last = bounds.groups()
    low = float(first)
    high = low if dash is None else float(last) if last is not None else float("inf")
    if high < low:
        raise ValueError(f"{path} = {text!r}: nothing lies in this range; write the smaller number first")

    def test(value: str) -> bool:
        try:
            return low <= float(value) <= high
        except ValueError:
            return False  # absent, or what the scanner wrote is no number

    return test


def _date_or_time(path: str, text: str) -> Test:
    if "*" in text or "?" in text:
        return _wildcard(text)
    bounds = _TIME_OR_RANGE.fullmatch(text)
    if bounds is None or not (bounds[1] or bounds[3]):
        raise ValueError(f"{path} = {text!r}: give digits such as '20240131' or '0730', or a range '20240101-'")
    low, dash, high = bounds[1], bounds[2], bounds[3] or ""
    if dash is None:
        return lambda value: value == low
    return lambda value: value != "" and value >= low and (not high or value[: len(high)] <= high)


def _age(path: str, text: str) -> Test:
    if "*" in text or "?" in text:
        return _wildcard(text)
    bounds = _AGE_OR_RANGE.fullmatch(text.upper())
    if bounds is None or not (bounds[1] or bounds[3]):
        raise ValueError(f"{path} = {text!r}: give an age such as '018Y' or '006M', or a range '018Y-'")
    low = _days(bounds[1]) if bounds[1] else 0.0
    high = _days(bounds[3]) if bounds[3] else low if bounds[2] is None else float("inf")

    def test(value: str) -> bool:
        match = _AGE_OR_RANGE.fullmatch(value.upper())
        return bool(match and match[1] and not match[2]) and low <= _days(value.strip().upper()) <= high

    return test


def _days(age: str) -> float:
    return int(age[:-1]) * _AGE_DAYS[age[-1]]

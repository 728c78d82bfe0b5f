"""``escalate`` of a rule: limits of measurements beyond which a result is urgent."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_LIMIT = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*([^\s0-9.]\S*)\s*")
_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType({
    "mm": ("mm", 1.0), "cm": ("mm", 10.0), "mm2": ("mm2", 1.0), "cm2": ("mm2", 100.0),
    "mm3": ("mm3", 1.0), "ml": ("mm3", 1000.0), "cm3": ("mm3", 1000.0), "l": ("mm3", 1e6),
    "%": ("%", 1.0), "HU": ("[hnsf'U]", 1.0), "d": ("d", 1.0),
})  # fmt: skip
"""Unit of a limit: the UCUM unit of measurements, and how many of these it is."""
_UCUM = MappingProxyType({"mL": "ml", "L": "l", "[hnsf'U]": "HU"})
"""Other spellings in measurements."""
_THAN: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
)


@dataclass(frozen=True, kw_only=True)
class MeasurementLimit:
    """A limit of one measurement."""

    text: str
    """As it is configured."""
    name: str
    """Name or code value of the measurement."""
    than: str
    """``>``, ``>=``, ``<`` or ``<=``."""
    number: float
    unit: str

    def is_passed(self, value: float, unit: str) -> bool:
        """Return whether a measurement is beyond the limit. ``unit``: its UCUM code; another kind of unit is not."""
        mine, theirs = _UNITS[self.unit], _UNITS.get(_UCUM.get(unit, unit))
        if theirs is None or theirs[0] != mine[0]:
            return False
        return _THAN[self.than](value * theirs[1], self.number * mine[1])


def parse_limit(text: str) -> MeasurementLimit:
    """Read ``Volume > 30 ml``. Raises ``ValueError``."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: give name, <, <=, > or >=, number and unit of a measurement: 'Volume > 30 ml'")
    name, than, number, unit = match.groups()
    if unit not in _UNITS:
        raise ValueError(f"{text!r}: unit {unit!r} is not known; give one of {', '.join(_UNITS)}")
    return MeasurementLimit(text=text.strip(), name=name, than=than, number=float(number), unit=unit)

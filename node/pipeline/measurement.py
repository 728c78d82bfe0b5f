"""Measurements and judgements (TID 300), of the study, of something outlined, and of something without a mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
from pydicom.sr.coding import Code

from node.pipeline.assertion import presence_of
from node.pipeline.shape import Shape
from node.pipeline.ucum import unit_fault

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number with name and unit (TID 300)."""

    name: Code
    value: float
    unit: Code
    """UCUM code, for example ``codes.UCUM.Millimeter`` or ``Code("ml", "UCUM", "ml")``."""
    derivation: Code | None = None
    """How it was derived (CID 7464) where ``name`` does not say it, for example ``codes.SCT.Mean``."""
    shapes: tuple[Shape, ...] = ()
    """Where it was measured (TID 320): the line of a distance, the arms of an angle. The number is the pipeline's own.
    Of a ``MeasurementGroup`` only: what is outlined was measured on its outline."""

    def __post_init__(self) -> None:
        keep_tuples(self)
        check_codes("Measurement", name=self.name, unit=self.unit)
        if not np.isfinite(self.value):
            raise ValueError(f"Measurement {self.name.meaning!r} is {self.value}; leave out what cannot be measured")
        if fault := unit_fault(self.unit.value, self.unit.scheme_designator):
            raise ValueError(f"Measurement {self.name.meaning!r}: {fault}")


def check_codes(of: str, **codes: object) -> None:
    """Raise ``ValueError`` for a text in the place of a code."""
    for name, code in codes.items():
        if isinstance(code, str):
            example = f'Code("{code}", "UCUM", "{code}")' if name == "unit" else f'Code(value, scheme, "{code}")'
            raise ValueError(f"{of}.{name} is {code!r}; give a code: {example}, or one of `ainode codes find`")  # noqa: TRY004


def keep_tuples(of: DataclassInstance) -> None:
    """Keep what was given as a list as a tuple. Raises ``ValueError`` for one thing in the place of several."""
    for attribute in fields(of):
        value = getattr(of, attribute.name)
        if attribute.default != ():
            continue
        if isinstance(value, list):
            object.__setattr__(of, attribute.name, tuple(value))
        elif isinstance(value, str | Code) or not isinstance(value, Iterable):  # a Code is a tuple of texts
            kind = f"{type(of).__name__}.{attribute.name} is one {type(value).__name__}"
            raise ValueError(f"{kind}; give a tuple, with a comma after each")  # noqa: TRY004


def check_label(of: str, label: str) -> None:
    """Raise ``ValueError`` for a label that no Segment Label or tracking identifier can hold."""
    if not 0 < len(label) <= 64:
        raise ValueError(f"{of}.label {label!r} has {len(label)} characters; use 1 to 64")


def check_once(of: str, measurements: Iterable[Measurement]) -> None:
    """Raise ``ValueError`` when one quantity has two values: viewers show one of them."""
    counts = Counter(
        (m.name.scheme_designator, m.name.value, m.derivation and m.derivation.value) for m in measurements
    )
    for (_, value, _), count in counts.items():
        if count > 1:
            raise ValueError(f"Measurement {value!r} of {of} is given {count} times; tell them apart by derivation")


def check_unplaced(of: str, measurements: Iterable[Measurement]) -> None:
    """Raise ``ValueError`` when a measurement of what has a place, or of the study, states a place of its own."""
    for measurement in measurements:
        if measurement.shapes:
            raise ValueError(
                f"Measurement {measurement.name.meaning!r} of {of} has shapes; give it in a MeasurementGroup"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasurementGroup:
    """Measurements and judgements of something without a mask: an organ, a diffuse disease."""

    label: str
    """Unique within the findings, at most 64 characters, for example ``"Left lung"``."""
    finding: Code
    """What was measured, for example ``codes.SCT.Lung`` or ``codes.SCT.Emphysema``; it is not said to be a finding."""
    site: Code | None = None
    laterality: Code | None = None
    measurements: tuple[Measurement, ...] = ()
    evaluations: Mapping[Code, Code] = field(default_factory=dict)
    """What was judged, and how, for example a grade; what is present or absent is an ``Assertion``."""

    def __post_init__(self) -> None:
        keep_tuples(self)
        check_label("MeasurementGroup", self.label)
        check_codes("MeasurementGroup", finding=self.finding)
        if not self.measurements and not self.evaluations:
            raise ValueError(f"MeasurementGroup {self.label!r} says nothing; give measurements or evaluations")
        check_once(self.label, self.measurements)
        for name, value in self.evaluations.items():
            if presence_of(value) is not None:
                raise ValueError(
                    f"MeasurementGroup {self.label!r} says {name.meaning!r} is {value.meaning!r}; use "
                    "Findings.assertions for what is present, absent or indeterminate"
                )

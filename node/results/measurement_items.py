"""Measurements as content items of a report (TID 300)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from highdicom.sr import CoordinatesForMeasurement, CoordinatesForMeasurement3D, Measurement
from pydicom.valuerep import DS

from node import pipeline
from node.wording import digits, sensible

Coordinates = CoordinatesForMeasurement | CoordinatesForMeasurement3D


def measurement_items(measurements: Iterable[pipeline.Measurement]) -> list[Measurement] | None:
    """Return measurements as content items; ``None`` when there are none."""
    return [measurement_item(m) for m in measurements] or None


def measurement_item(measured: pipeline.Measurement, coordinates: Sequence[Coordinates] = ()) -> Measurement:
    """Return a measurement rounded to its significant digits, with the coordinates that it was inferred from."""
    unit = measured.unit.value
    item = Measurement(
        measured.name,
        sensible(measured.value, unit),
        measured.unit,
        derivation=measured.derivation,
        referenced_coordinates=list(coordinates) or None,
    )
    item[0].MeasuredValueSequence[0].NumericValue = DS(digits(measured.value, unit))  # viewers show it as it is
    return item

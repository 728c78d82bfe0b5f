"""What a pipeline's author writes wrongly at first is answered with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from node.inference.run_pipeline import broken
from node.pipeline import Findings, Lesion, Measurement, MeasurementGroup, Region, Segment, Shape, Volume, codes

MASK = Volume(np.ones((2, 2, 2), np.uint8), np.eye(4), coordinate_system="PATIENT")
LUNG: dict[str, Any] = {"category": codes.SCT.AnatomicalStructure, "type": codes.SCT.Lung}


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (
            lambda: Measurement(name=codes.SCT.Volume, value=3, unit="ml"),
            r'Code\("ml", "UCUM", "ml"\)',
        ),  # type: ignore[arg-type]
        (lambda: Measurement(name="Volume", value=3, unit=codes.UCUM.Millimeter), r"name is 'Volume'; give a code"),  # type: ignore[arg-type]
        (lambda: MeasurementGroup(label="Lung", finding="Lung"), r"MeasurementGroup.finding is 'Lung'; give a code"),  # type: ignore[arg-type]
        (lambda: Region(label="x", finding="Mass", shape=Shape.point((1, 2, 3))), r"Region.finding is 'Mass'"),  # type: ignore[arg-type]
        (lambda: Segment(label="x", mask=MASK, **LUNG | {"type": "Lung"}), r"Segment.type is 'Lung'; give a code"),
        (lambda: Lesion(segment=Segment(label="x", mask=MASK, **LUNG), finding="Mass"), r"Lesion.finding is 'Mass'"),  # type: ignore[arg-type]
    ],
)
def test_a_text_in_the_place_of_a_code_is_refused_with_an_example(make: Callable[[], Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make()


def test_lists_are_taken_and_one_thing_in_the_place_of_several_is_refused_with_the_comma() -> None:
    volume = Measurement(name=codes.SCT.Volume, value=3, unit=codes.UCUM.CubicMillimeter)
    group = MeasurementGroup(label="Lung", finding=codes.SCT.Lung, measurements=[volume])  # type: ignore[arg-type]
    findings = Findings(groups=[group], assertions=[], looked_for=[codes.SCT.Nodule])  # type: ignore[arg-type]
    assert (findings.groups, findings.all_assertions, group.measurements) == ((group,), (), (volume,))
    assert findings.looked_for == (codes.SCT.Nodule,)
    for given, fault in (
        ({"groups": group}, "Findings.groups is one MeasurementGroup; give a tuple, with a comma after each"),
        ({"looked_for": (codes.SCT.Nodule)}, "Findings.looked_for is one Code; give a tuple"),
        ({"remarks": "a sentence"}, "Findings.remarks is one str; give a tuple"),
    ):
        with pytest.raises(ValueError, match=fault):
            Findings(**given)  # type: ignore[arg-type]


def test_a_code_that_pydicom_lacks_is_answered_with_how_to_find_it() -> None:
    with pytest.raises(AttributeError) as error:
        _ = codes.SCT.InfarctOfBrain
    assert broken("stroke", error.value) == (
        "pipeline 'stroke' broke: AttributeError: No matching code for keyword 'InfarctOfBrain' in scheme 'SCT'; "
        "`ainode codes find infarct of brain` searches for it, and any other code is Code(value, scheme, meaning)"
    )
    assert broken("x", KeyError("y")) == "pipeline 'x' broke: KeyError: 'y'"


def test_a_box_in_space_as_the_page_has_it_is_a_polygon_in_the_patient() -> None:
    corners = MASK.map_indices_to_reference(np.array([(1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)]))
    assert len(Shape.polygon(corners).points) == 5

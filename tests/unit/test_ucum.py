"""Units: any code of UCUM is taken, and what is none is refused where the pipeline states it."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.sr._concepts_dict import concepts

from node.pipeline import Code, Measurement, codes
from node.pipeline.ucum import is_ucum, unit_fault
from node.results.gate.codes import code_faults


def coded(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "UCUM", value
    return item


@pytest.mark.parametrize(
    "value",
    [
        "ml",
        "mL",
        "mm3",
        "ml/min/g",
        "10*3/ul",
        "kg.m2/s2",
        "m[H2O]",
        "B[10.nV]",
        "mm[Hg]",
        "/cm",
        "s-1",
        "g/ml{SUVbw}",
        "ml/(100.g.min)",
        "{score}",
        "10*-3.mm2/s",
        "[hnsf'U]",
        "Gy",
        "MBq/kg",
        "%",
        "1",
    ],
)
def test_units_of_ucum_are_taken_by_contract_and_gate(value: str) -> None:
    assert Measurement(name=codes.SCT.Volume, value=1.0, unit=Code(value, "UCUM", value)).unit.value == value
    assert [*code_faults([coded(value)])] == []


def test_units_that_the_standard_lists_are_taken() -> None:
    listed = {value for named in concepts["UCUM"].values() for value in named}
    assert [value for value in listed if not is_ucum(value)] == []


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("HU", r"did you mean \"\[hnsf'U\]\"\?"),
        ("mm^3", r"did you mean 'mm3'\?"),
        ("mm³", r"did you mean 'mm3'\?"),
        ("cc", r"did you mean 'ml'\?"),
        ("", r"did you mean '1'\?"),
        ("MM", "case sensitive; UCUM writes mm"),
        ("ml/", "is no UCUM unit"),
        ("m m", "is no UCUM unit"),
        ("(m", "is no UCUM unit"),
        ("{a", "is no UCUM unit"),
        ("kfoo", "is no UCUM unit"),
    ],
)
def test_what_is_no_unit_is_refused_with_a_remedy(value: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Measurement(name=codes.SCT.Volume, value=1.0, unit=Code(value, "UCUM", value))
    assert [*code_faults([coded(value)])]


def test_a_unit_of_another_scheme_is_refused() -> None:
    assert "use a UCUM code" in unit_fault("mm", "SCT")


@pytest.mark.parametrize("letter", ["(", "/", "m", "{", "m.", "(m."])
def test_a_long_text_is_refused_and_nothing_breaks(letter: str) -> None:
    assert not is_ucum(letter * 10_000)

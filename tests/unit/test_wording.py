"""Numbers as a physician reads them: no scientific notation, no digit that nobody measured, the same everywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.wording import digits, in_words, person, quantity, sensible, together, written

UNITS = ("mm", "mm2", "mm3", "ml", "cm3", "[hnsf'U]", "%", "d", "{ratio}", "1", "{SUVbw}g/ml", "mm2/s", "g/ml", "{x}")
"""UCUM codes of everything that is measured or passed on."""
READABLE = re.compile(r"(under |over )?[+-]?\d+(\.\d{1,9})?( [A-Za-z%][A-Za-z0-9²³/%]*)?")


@pytest.mark.parametrize("unit", UNITS)
def test_every_size_in_every_unit_is_a_plain_number(unit: str):
    for value in (leading * 10.0**exponent for leading in (1.0, 4.96, 9.999) for exponent in range(-9, 10)):
        for shown in (value, -value):
            text = quantity(shown, unit)
            assert READABLE.fullmatch(text), text
            assert len(text.split(".")[0]) < 22, text
        significant = re.sub(r"[^1-9]", "", digits(value, unit)) if value < 100 else ""
        assert len(significant) <= (3 if unit == "%" else 2), (value, unit, digits(value, unit))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7.31, "mm", "7 mm"),
        (12.5, "mm", "13 mm"),
        (13.5, "mm", "14 mm"),
        (0.25, "ml", "0.3 ml"),
        (0.43, "mm", "under 1 mm"),
        (0.0, "mm", "0 mm"),
        (113.4, "mm3", "113 mm³"),
        (999.6, "mm3", "1.0 ml"),
        (1234.0, "mm3", "1.2 ml"),
        (20583.0, "mm3", "21 ml"),
        (1e-9, "ml", "under 0.1 ml"),
        (59.312, "%", "59 %"),
        (99.73, "%", "over 99 %"),
        (100.0, "%", "100 %"),
        (0.02, "%", "under 1 %"),
        (-511.6, "[hnsf'U]", "-512 HU"),
        (-510.5, "[hnsf'U]", "-511 HU"),
        (0.3, "[hnsf'U]", "0 HU"),
        (-0.3, "[hnsf'U]", "0 HU"),
        (1.0, "d", "1 day"),
        (410.2, "d", "410 days"),
        (0.5893, "{ratio}", "0.59"),
        (1e-9, "1", "under 0.001"),
        (523.4, "1", "523"),
        (4.234, "{SUVbw}g/ml", "4.2 SUVbw"),
        (0.00082, "mm2/s", "0.00082 mm2/s"),
        (1e9, "mm", "1000000000 mm"),
    ],
)
def test_values_read_as_a_radiologist_writes_them(value: float, unit: str, text: str):
    assert quantity(value, unit) == text
    assert in_words("Long axis", value, unit) == f"Long axis {text}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(37.9, "+38 %"), (12.5, "+13 %"), (-12.2, "-12 %"), (0.2, "0 %"), (-0.2, "0 %"), (99.7, "+100 %")],
)
def test_a_change_has_its_sign(value: float, text: str):
    assert quantity(value, "%", signed=True) == text


@given(st.floats(-1e9, 1e9, allow_nan=False), st.sampled_from(UNITS))
def test_rounding_twice_changes_nothing_so_that_a_value_read_back_reads_the_same(value: float, unit: str):
    once = sensible(value, unit)
    assert sensible(once, unit) == once
    assert quantity(once, unit) == quantity(value, unit)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("Doe^Jane", ("Doe, Jane",)),
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", ("Adams, Rev. John Robert Quincy, B.A. M.Div.",)),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("Yamada, Tarou", "山田 太郎", "やまだ たろう")),
        ("=山田^太郎", ("山田 太郎",)),
        ("Doe", ("Doe",)),
        ("^Jane", ("Jane",)),
        ("Doe^^^^", ("Doe",)),
        ("Doe^Jane==", ("Doe, Jane",)),
        ("a^b^c^d^e^f", ("a, d b c, e",)),
        ("", ()),
        ("^^=^=^", ()),
    ],
)
def test_a_name_has_neither_carets_nor_equals_signs(name: str, groups: tuple[str, ...]):
    assert person(name) == groups


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.5, "6.5"),
        (6.504, "6.504"),
        (10.0, "10"),
        (-0.0, "0"),
        (-0.0001, "0"),
        (1e-9, "0"),
        (-1000.0, "-1000"),
        (1e308, "more than 10000000"),
        (-1e308, "less than -10000000"),
    ],
)
def test_limits_and_values_of_headers_are_plain_numbers(value: float, text: str):
    assert written(value) == text


def test_parts_of_a_reason_read_as_sentences():
    missing, cut = "34 images received, 99 refused: the lower 248 mm were not analysed", "The lungs are cut off."
    assert together(missing, "", cut) == f"{missing}. {cut}"
    assert together(cut, "one image is a localizer") == "The lungs are cut off; one image is a localizer"
    assert together("", cut, "") == cut
    assert together() == ""

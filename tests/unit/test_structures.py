"""Names of other people's classes as codes."""

from __future__ import annotations

import pytest

from pipelines.structures import PRIVATE_SCHEME, structure


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("kidney_left", "Kidney"),
        ("Right Kidney", "Kidney"),
        ("vertebrae_T12", "T12 vertebra"),
        ("rib_right_7", "Rib"),
        ("lung_upper_lobe_left", "Upper lobe of lung"),
        ("heart_atrium_left", "Left atrium"),
        ("IVC", "Inferior vena cava"),
        ("pancreatic tumor", "Neoplasm"),
    ],
)
def test_common_names_get_their_snomed_code(name, meaning):
    _, kind = structure(name)
    assert (kind.scheme_designator, kind.meaning) == ("SCT", meaning)


def test_a_side_never_changes_the_code_of_an_unknown_name():
    left, right = structure("gluteus_maximus_left")[1], structure("gluteus_maximus_right")[1]
    assert tuple(left) == tuple(right) == ("GLUTEUS-MAXIMUS", PRIVATE_SCHEME, "gluteus maximus", None)


def test_what_is_abnormal_has_the_category_of_the_abnormal():
    assert structure("lesion")[0].meaning == "Morphologically Abnormal Structure"
    assert structure("liver")[0].meaning == "Anatomical Structure"

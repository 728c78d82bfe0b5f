"""Limits of measurements, and the measurement of a report that is beyond one."""

from __future__ import annotations

import pytest
from analyses import encoded, one
from pydicom import Dataset

from node.config import parse
from node.config.escalation import parse_limit
from node.errors import ConfigError
from node.results.escalation import urgent_measurement


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Of two lesions; the first one is the larger."""
    _, objects = encoded(tmp_path_factory.mktemp("report"))
    return one(objects, "sr")


def volumes(report: Dataset) -> list[float]:
    values = [0.0]
    while (larger := urgent_measurement(report, [parse_limit(f"Volume > {values[-1]} mm3")])) is not None:
        values.append(float(larger.value))
    return values[1:]


@pytest.mark.parametrize(
    ("limit", "value", "unit", "passed"),
    [
        ("Volume > 30 ml", 30_001.0, "mm3", True),
        ("Volume > 30 ml", 30_000.0, "mm3", False),
        ("Volume >= 30 ml", 30_000.0, "mm3", True),
        ("Volume > 30 cm3", 31.0, "mL", True),
        ("Long axis >= 2 cm", 20.0, "mm", True),
        ("Long axis < 8 mm", 7.9, "mm", True),
        ("Certainty of Finding > 90 %", 98.0, "%", True),
        ("Volume > 0 ml", 5.0, "mm", False),
        ("Volume > 0 ml", 5.0, "{events}", False),
        ("Mean > -100 HU", -50.0, "[hnsf'U]", True),
    ],
)
def test_a_limit_compares_in_units_of_one_kind(limit: str, value: float, unit: str, passed: bool):  # noqa: FBT001
    assert parse_limit(limit).is_passed(value, unit) is passed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Volume 30 ml", "give name"),
        ("Volume > ml", "give name"),
        ("Volume > 30", "give name"),
        ("> 30 ml", "give name"),
        ("Volume > 30 gallons", "unit 'gallons'"),
        ("Volume => 30 ml", "give name"),
    ],
)
def test_a_limit_that_cannot_be_read_is_refused(text: str, said: str):
    with pytest.raises(ValueError, match=said):
        parse_limit(text)


def test_the_first_measurement_beyond_a_limit_is_found_as_the_report_states_it(report: Dataset):
    values = volumes(report)
    assert values
    limit = parse_limit(f"volume >= {max(values)} mm3")
    urgent = urgent_measurement(report, [parse_limit("Volume > 1 l"), limit])
    assert urgent is not None
    assert (urgent.limit, urgent.measurement, float(urgent.value), urgent.unit) == (
        limit.text,
        "Volume",
        max(values),
        "mm3",
    )
    assert urgent.finding
    assert urgent_measurement(report, [parse_limit(f"Volume > {max(values)} mm3")]) is None
    assert urgent_measurement(report, [parse_limit(f"118565006 >= {max(values)} mm3")]) is not None
    assert urgent_measurement(report, [parse_limit("Height > 0 mm")]) is None


RULE = """
[ae]
title = "AINODE"
[pipelines.nodule]
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 104
objects = {objects}
[[rules]]
name = "chest"
pipelines = ["nodule"]
destinations = ["pacs"]
escalate = ["{limit}"]
"""


def test_a_rule_with_a_limit_needs_the_report_that_is_measured():
    assert parse(RULE.format(objects='["sr"]', limit="Volume > 30 ml")).rules[0].escalate == ("Volume > 30 ml",)
    with pytest.raises(ConfigError, match='add "sr" to objects'):
        parse(RULE.format(objects='["seg"]', limit="Volume > 30 ml"))
    with pytest.raises(ConfigError, match="give name"):
        parse(RULE.format(objects='["sr"]', limit="large"))

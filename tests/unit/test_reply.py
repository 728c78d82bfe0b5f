"""A reply of the process that runs models is taken only as far as each of its values has the right form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.errors import PipelineError
from node.inference.task import Reply

FACTS = {
    "scanner": "A B",
    "slices": 10,
    "voxels": 2621440,
    "slice_spacing_mm": None,
    "pixel_spacing_mm": 0.7,
    "level_low": -1000.0,
    "level_mid": 0.0,
    "level_high": 300.0,
    "histogram": [0.5, 0.5],
    "findings": 1,
    "scores": [0.0, 0.25, 1.0],
}


def reply(**values: Any) -> bytes:
    return json.dumps({"outcome": "findings", "timings": {"run": 1.0}, "facts": FACTS, **values}).encode()


def test_an_honest_reply_is_read() -> None:
    assert Reply.from_bytes(reply()).facts == FACTS
    assert Reply.from_bytes(reply(facts={})).facts == {}


@pytest.mark.parametrize(
    "facts",
    [
        {"scores": ["high"]},
        {"scores": [None]},
        {"scores": [[0.5]]},
        {"scores": 0.5},
        {"scores": [float("nan")]},
        {"scores": [True]},
        {"scores": [1.5]},
        {"scores": [0.5] * 100_000},
        {"histogram": ["x"]},
        {"histogram": [float("inf")]},
        {"histogram": "x"},
        {"slices": "ten"},
        {"slices": 10**400},
        {"level_low": [1]},
        {"scanner": 5},
        {"job_id": "another"},
        {"pipeline": "another"},
        {"at": 5.0},
    ],
    ids=lambda facts: str(facts)[:40],
)
def test_statistics_of_another_form_are_no_reply(facts: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match="a value of a wrong type"):
        Reply.from_bytes(reply(facts={**FACTS, **facts}))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, [], "x", None], ids=lambda n: str(n)[:8])
@pytest.mark.parametrize("key", ["timings", "peak_memory_mib"])
def test_a_time_that_is_no_number_is_no_reply(key: str, number: Any) -> None:
    with pytest.raises(PipelineError, match="sent no reply that can be read"):
        Reply.from_bytes(reply(**{key: {"run": number}}))

"""Drift: a change of what a pipeline gets or finds is told; what varies by chance is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from analysis_facts import facts
from ledgers import open_copy

from node.config import Config
from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate, now
from node.operate.alerts import current_alerts
from node.operate.drift import drift
from node.spool import Spool


@pytest.mark.parametrize("seed", range(20))
def test_ordinary_variety_is_no_drift(seed: int):
    assert drift(facts(550, seed), 50) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"slice_spacing_mm": 5.0}, "Slice spacing: median "),
        ({"scanner": "C Three"}, "Scanners: 0 % were C Three, now 100 %"),
        ({"level_mid": lambda chance: chance.gauss(-500, 60)}, "Median grey level: median "),
        ({"findings": lambda chance: chance.choice([2, 3, 4])}, "Findings per analysis: median 0, now 3"),
    ],
)
def test_a_change_of_scanner_protocol_or_findings_is_told(changed: dict[str, Any], words: str):
    (said,) = drift(facts(50, 1, **changed) + facts(200, 2), 50)
    assert said.startswith(words)


def test_what_was_not_measured_is_no_drift():
    assert drift(facts(50, 1, pixel_spacing_mm=None) + facts(200, 2), 50) == []


def test_nothing_is_said_of_too_few_analyses():
    assert drift(facts(50, 1, slice_spacing_mm=5.0) + facts(49, 2), 50) == []


def test_drift_is_a_problem_that_ends_when_the_change_has_become_usual(tmp_path: Path):
    config = Config.model_validate(
        {
            "storage": {"folder": tmp_path, "min_free_gib": 0.0},
            "notify": {"drift_analyses": 5},
            "pipelines": {"one": {}},
        }
    )
    engine, spool = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), Spool(tmp_path)
    more = {"outcome": "findings", "scores": [], "device": "cpu", "run_seconds": 1.0}

    def told(spacing: float, count: int) -> str:
        with begin_immediate(engine) as connection:
            for number in range(count):
                same = facts(1, 3, slice_spacing_mm=spacing)[0]
                record_statistics(connection, f"{spacing} {number}", "one", {**same, **more})
            return current_alerts(config, connection, spool, now()).get("drift one", "")

    assert told(1.0, 10) == ""
    assert told(5.0, 5).endswith("has changed. Slice spacing: median 1, now 5 mm")
    assert told(5.0, 60) == ""
    engine.dispose()

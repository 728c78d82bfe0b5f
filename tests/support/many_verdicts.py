"""Analyses of a year with the verdicts of readers on some of them, for the page of quality."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import sqlalchemy as sa

from node.ledger.engine import begin_immediate
from node.ledger.tables import job_fact, verdict

SCANNERS = 40
_YEAR = 360 * 86400.0
_MOST_FINDINGS = 5
"""Of one analysis; as many analyses have any number from none to this."""
_AT_ONCE = 20_000
_SAID = ("accepted",) * 6 + ("edited", "edited", "rejected", "added")


def fill_verdicts(engine: sa.Engine, findings: int, verdicts: int) -> int:
    """Write analyses with this many findings, by three pipelines in two versions each, and the verdicts.

    Return the number of analyses.
    """
    analyses = round(findings / (_MOST_FINDINGS / 2))
    dice, begin = random.Random(1), time.time() - _YEAR
    judged = set(dice.sample(range(analyses), verdicts // 2))
    for first in range(0, analyses, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, analyses))
        facts = [_fact(number, begin + _YEAR * number / analyses) for number in numbers]
        given = [row for number in numbers if number in judged for row in _verdicts(number, dice)]
        with begin_immediate(engine) as connection:
            connection.execute(sa.insert(job_fact), facts)
            if given:
                connection.execute(sa.insert(verdict), given)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")  # as autovacuum does soon
    return analyses


def _fact(number: int, at: float) -> dict[str, object]:
    findings = number % (_MOST_FINDINGS + 1)
    return {
        "job_id": f"quality-{number:08}",
        "pipeline": f"pipeline-{number % 3}",
        "at": at,
        "outcome": "findings" if findings else "no findings",
        "scanner": f"Manufacturer {number % SCANNERS % 4} Model {number % SCANNERS}",
        "slices": 300,
        "voxels": 300 * 512 * 512,
        "findings": findings,
        "scores": [0.9] * findings,
        "device": "cpu",
        "run_seconds": 9.0,
        "version": "1.0" if number // 3 % 2 else "1.1",
    }


def _verdicts(number: int, dice: random.Random) -> Iterator[dict[str, object]]:
    for lesion in range(2):
        said = dice.choice(_SAID)
        yield {
            "source": f"1.2.{number}",
            "job_id": f"quality-{number:08}",
            "lesion": str(lesion),
            "kind": "segmentation",
            "verdict": said,
            "reader": "",
            "given_at": time.time(),
            "dice": 0.8 if said == "edited" else None,
            "volume_mm3": 500.0 if said == "edited" else None,
            "reader_volume_mm3": 500.0 + dice.uniform(-50.0, 50.0) if said == "edited" else None,
        }

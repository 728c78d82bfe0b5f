"""What verdicts say about pipelines: rates with intervals, silence, and nothing about too few verdicts."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from ledgers import open_copy
from scipy import stats

from node.__main__ import main
from node.feedback.quality import LEAST, mean, rate, share
from node.feedback.quality_report import VerdictCounts, as_csv, as_text, month_starts
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.tables import job_fact, verdict

MONTH = 31 * 86400.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    opened = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.dispose()


def analyses(names: Sequence[str], at: float, **values: object) -> list[dict[str, object]]:
    row = {
        "pipeline": "nodule", "version": "1.0", "scanner": "A One", "at": at, "outcome": "findings", "slices": 300,
        "findings": 2, "scores": [0.5], "device": "cpu", "run_seconds": 1.0,
    }  # fmt: skip
    return [row | values | {"job_id": name} for name in names]


def given(names: Sequence[str], said: str, **values: object) -> list[dict[str, object]]:
    row = {"source": "1.2.3", "lesion": said, "kind": "segmentation", "verdict": said, "reader": "", "given_at": 1.0}
    return [row | {"job_id": name} | values for name in names]


def store(engine: sa.Engine, facts: list[dict[str, object]], verdicts: list[dict[str, object]]) -> None:
    with begin_immediate(engine) as connection:
        connection.execute(job_fact.insert(), facts)
        keys = {key for row in verdicts for key in row}
        connection.execute(verdict.insert(), [{**dict.fromkeys(keys), **row} for row in verdicts])


def now(engine: sa.Engine) -> float:
    with engine.connect() as connection:
        return ledger_clock(connection)


def numbered(first: int, count: int) -> list[str]:
    return [f"job {number}" for number in range(first, first + count)]


@pytest.mark.parametrize(("part", "whole"), [(0, 20), (20, 20), (13, 40), (999, 1000)])
def test_proportions_have_wilson_intervals(part: int, whole: int):
    estimate, known = share(part, whole), stats.binomtest(part, whole).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((known.low, known.high))
    assert (estimate.value, estimate.of) == (part / whole, whole)


@pytest.mark.parametrize(("events", "of"), [(0, 25), (7, 25), (400, 100)])
def test_rates_have_exact_poisson_intervals(events: int, of: int):
    estimate = rate(events, of)
    low = stats.chi2.ppf(0.025, 2 * events) / 2 / of if events else 0.0
    assert (estimate.low, estimate.high) == pytest.approx((low, stats.chi2.ppf(0.975, 2 * events + 2) / 2 / of))


def test_means_have_t_intervals():
    values = [math.sin(number) for number in range(30)]
    estimate, known = mean(values), stats.ttest_1samp(values, 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((known.low, known.high))


def test_nothing_is_said_of_fewer_than_twenty():
    assert LEAST == 20
    assert (share(10, 19), rate(3, 19), mean([0.5] * 19)) == (None, None, None)


def test_verdicts_and_silence_are_counted_by_version_scanner_and_month(engine: sa.Engine):
    at = now(engine)
    first, second = numbered(0, 50), numbered(50, 4)
    facts = [
        *analyses(first, at),
        *analyses(second, at - MONTH, version="0.9"),
        *analyses(["other scanner"], at, scanner="B Two"),
        *analyses(["failed"], at, outcome="failed"),
        *analyses(["images"], at, outcome="derived"),
        *analyses(["long ago"], at - 13 * MONTH),
    ]
    edit = {"dice": 0.8, "volume_mm3": 110.0, "reader_volume_mm3": 90.0}
    verdicts = [
        *given(first[:24], "accepted"),
        *given(first[:20], "edited", **edit),
        *given(first[:11], "rejected"),
        *given(first[:4], "added"),
        *given(first[:1], "rejected", lesion="old", superseded_at=2.0),
        *given(second[:2], "rejected"),
    ]
    store(engine, facts, verdicts)
    rows = {(row.version, row.scanner, row.month): row for row in VerdictCounts.read(engine).rows()}
    months = month_starts(at, 2)[1]
    assert set(rows) == {("1.0", "A One", months[1]), ("0.9", "A One", months[0]), ("1.0", "B Two", months[1])}
    row = rows["1.0", "A One", months[1]]
    assert (row.analyses, row.judged) == (50, 24)
    assert (row.accepted, row.edited, row.rejected, row.added) == (24, 20, 11, 4)
    assert row.ppv.value == 44 / 55
    assert row.sensitivity.value == 44 / 48
    assert row.false_per_analysis.value == 11 / 24
    assert row.share_judged.value == 24 / 50
    assert row.dice.value == pytest.approx(0.8)
    assert row.volume_difference.value == pytest.approx(20.0)
    assert row.limits_of_agreement == pytest.approx((20.0, 20.0))
    silent, few = rows["1.0", "B Two", months[1]], rows["0.9", "A One", months[0]]
    assert (silent.analyses, silent.judged, silent.ppv, silent.share_judged) == (1, 0, None, None)
    assert (few.rejected, few.ppv, few.false_per_analysis) == (2, None, None)
    (whole,) = VerdictCounts.read(engine).rows(by=())
    assert (whole.analyses, whole.rejected, whole.month) == (55, 13, f"{month_starts(at, 12)[1][0]} to {months[1]}")
    text = as_text(VerdictCounts.read(engine).rows())
    assert "80.0 % [67.6 to 88.4], n = 55" in text
    assert "too few verdicts (under 20)" in text


def test_months_are_those_of_the_calendar_in_utc():
    at = datetime(2027, 2, 3, tzinfo=UTC).timestamp()
    starts, names = month_starts(at, 4)
    assert names == ["2026-11", "2026-12", "2027-01", "2027-02"]
    assert starts[2] == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def test_the_verb_prints_text_json_and_csv(engine: sa.Engine, tmp_path: Path):
    names = numbered(0, 30)
    store(engine, analyses(names, now(engine), scanner="=cmd()"), given(names[:21], "accepted"))
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\nmin_free_gib = 0.0\n')

    def said(*options: str) -> str:
        done = CliRunner().invoke(main, ["quality", "--config", str(config), *options])
        assert done.exit_code == 0, done.output
        return done.output

    assert "21 of 30 analyses with a verdict" in said()
    (row,) = json.loads(said("--json", "--by", "version"))
    assert (row["version"], row["scanner"], row["ppv"]["value"]) == ("1.0", "", 1.0)
    (line,) = csv.DictReader(StringIO(said("--csv")))
    assert (line["ppv"], line["ppv_n"], line["dice"], line["scanner"]) == ("1.0", "21", "", "'=cmd()")
    said("--pdf", str(tmp_path / "quality.pdf"))
    assert (tmp_path / "quality.pdf").read_bytes().startswith(b"%PDF")
    assert as_csv([]).startswith("pipeline,version,scanner,month,")


@pytest.mark.thorough
def test_ten_thousand_verdicts_are_counted_in_seconds(engine: sa.Engine):
    at = now(engine)
    names = numbered(0, 50_000)
    facts = [
        fact | {"at": at - number * 500.0, "scanner": f"Scanner {number % 7}"}
        for number, fact in enumerate(analyses(names, at))
    ]
    verdicts = given(names[:4000], "accepted") + given(names[:3000], "edited", dice=0.9) + given(names[:3000], "added")
    store(engine, facts, verdicts)
    share(10, 20)  # imports
    began = time.process_time()
    rows = VerdictCounts.read(engine).rows()
    assert time.process_time() - began < 3.0  # 0.2 on a quiet machine
    assert sum(row.analyses for row in rows) > 49_000

"""The router's memory of series whose headers cost too much: enough to hold them back, not more."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest
from receivers import until

from node.errors import InputError, InternalError
from node.routing import examiner
from node.routing.examiner import Examiner, PendingExamination
from node.routing.rules import Origin
from node.routing.series_examination import Examination, SeriesQuestion
from node.routing.slow_examinations import Key
from node.spool import Spool


class Bounded:
    """A process in which every series reaches the bounds, or which ends."""

    def __init__(self) -> None:
        self.error: Exception = InputError("needs more than 60 s")
        self.calls = 0

    def call(self, *_: Any) -> Any:
        self.calls += 1
        raise self.error


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Bounded:
    process = Bounded()
    monkeypatch.setattr(examiner, "shared_process", lambda *_, **__: process)
    return process


@pytest.fixture
def examined(process: Bounded, tmp_path: Path) -> Examiner:
    return Examiner(Spool(tmp_path), ())


def question(images: int) -> SeriesQuestion:
    return SeriesQuestion(paths=tuple(Path(str(n)) for n in range(images)), origin=Origin())


def examine(examined: Examiner, key: Key, asked: SeriesQuestion, at: float) -> Examination | PendingExamination:
    """The answer, also where the series is examined apart from others."""
    answers = []

    def has_answer() -> bool:
        answers.append(examined.examine(key, asked, at))
        return not (isinstance(answers[-1], PendingExamination) and answers[-1].until == inf)

    until(has_answer)
    return answers[-1]


def test_a_series_beyond_the_bounds_is_ignored_and_waits_longer_each_time(examined: Examiner, process: Bounded) -> None:
    answer = examine(examined, ("1", "2"), question(1), 0.0)
    assert isinstance(answer, Examination)
    examined.keep(())
    waits = examine(examined, ("1", "2"), question(2), 29.0)
    assert isinstance(waits, PendingExamination)
    examine(examined, ("1", "2"), question(2), 30.0)
    waits = examine(examined, ("1", "2"), question(3), 89.0)
    assert isinstance(waits, PendingExamination)
    assert (waits.failures, process.calls) == (2, 3), "once quickly, and then apart"


def test_what_a_complete_series_cost_is_discarded_when_it_has_been_quiet_for_long(
    examined: Examiner, process: Bounded
) -> None:
    for number in range(50):
        examine(examined, ("1", str(number)), question(1), float(number))
        examined.keep(())
    assert len(examined._pending) == 50
    examine(examined, ("1", "late"), question(1), 10_000.0)
    assert set(examined._pending) == {("1", "late")}
    again = examine(examined, ("1", "0"), question(2), 10_000.0)
    assert isinstance(again, Examination)
    assert examined._pending["1", "0"].failures == 1


def test_a_series_that_waits_for_the_process_keeps_its_count(examined: Examiner, process: Bounded) -> None:
    process.error = InternalError("the process ended")
    at = 0.0
    for failures in range(1, 12):
        waits = examine(examined, ("1", "2"), question(1), at)
        assert isinstance(waits, PendingExamination)
        assert waits.failures == failures
        at = waits.until

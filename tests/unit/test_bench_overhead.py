"""``ainode bench overhead``: every stage runs in the processes of a node; the sleep of the network is not counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.bench import overhead
from node.bench.overhead import SYNTAXES, Line, Plan, markdown, measure
from node.demo.phantom import write_chest_ct

pytestmark = pytest.mark.rotating

STAGES = ["headers for the rules", "read, decode, hand over", "encode, gate, store"]
PLAN = Plan(network_seconds=0.5, studies=2, jobs=(2,), rounds=1, threads=1)


@pytest.mark.thorough
def test_stages_and_waiting_studies_are_measured_for_both_syntaxes(tmp_path: Path):
    images = write_chest_ct(tmp_path / "images", slice_mm=10.0).paths
    (folder := tmp_path / "bench").mkdir()
    lines = list(measure(PLAN, images, folder))
    assert list(folder.iterdir()) == []
    for syntax in SYNTAXES:
        *stages, whole, waiting = [line for line in lines if line.series == syntax]
        assert [line.measured for line in stages] == STAGES
        assert all(line.cpu_seconds[0] > 0 for line in stages)
        assert whole.cpu_seconds == pytest.approx((sum(line.cpu_seconds[0] for line in stages),))
        assert whole.seconds == pytest.approx((sum(line.seconds[0] for line in stages) - PLAN.network_seconds,))
        assert stages[1].seconds[0] > PLAN.network_seconds
        assert waiting.busy == pytest.approx(PLAN.network_seconds / waiting.seconds[0])
        assert 0 < waiting.busy < 1


def line(**changes: object) -> Line:
    told = {"series": "JPEG 2000", "measured": "3 waiting, 1 in flight", "cpu_seconds": (2.0, 1.0), "seconds": (3.0,)}
    return Line(**{**told, **changes})


def test_the_table_shows_medians_and_how_busy_the_device_was():
    text = markdown([line(), line(busy=0.25)], {"date": "today", "load": "load 0.0"}).splitlines()
    assert text[0] == "Measured today: load 0.0."
    assert text[-2] == "| JPEG 2000 | 3 waiting, 1 in flight | 1.50 (1.00-2.00) | 3.00 (3.00-3.00) |"
    assert text[-1].startswith("| JPEG 2000 | 3 waiting, 1 in flight, device busy 25% |")


@pytest.mark.thorough
def test_the_verb_measures_what_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    plans = []

    def scripted(plan: Plan, images: tuple[Path, ...], _folder: Path) -> Iterator[Line]:
        plans.append((plan, len(images)))
        yield line(busy=0.5)

    monkeypatch.setattr(overhead, "measure", scripted)
    monkeypatch.setattr("node.demo.phantom.write_chest_ct", partial(write_chest_ct, matrix=16))
    command = ["bench", "overhead", "--network-seconds", "2", "--studies", "5", "--threads", "3"]
    done = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["lines"][0]["busy"] == 0.5
    assert plans == [(Plan(network_seconds=2.0, studies=5, jobs=(1, 4), rounds=3, threads=3), 300)]
    shown = CliRunner().invoke(main, command, catch_exceptions=False).stdout
    assert "device busy 50%" in shown

"""``ainode bench encode``: every tool that is here encodes the same, and the table calculates what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.bench import encode
from node.bench.encode import Cell, Run, markdown, rows, run, tools_here
from node.bench.encode_task import labels, measure, prepare

SHAPE = (8, 64, 64)
SEG = Cell(objects="seg", segments=2, tools=("node", "highdicom"))


def one(tool: str, cpu_seconds: float) -> Run:
    return Run(cell=SEG, tool=tool, seconds=2 * cpu_seconds, cpu_seconds=cpu_seconds, size=3_000_000, peak_mb=200.4)


def test_every_tool_encodes_the_same_segments(tmp_path: Path):
    assert set(labels(SHAPE, 20).ravel().tolist()) == set(range(21))
    prepare(tmp_path, SHAPE, 2)
    done = {tool: measure(tool, "seg", 2, tmp_path) for tool in tools_here()}
    assert {"node", "highdicom"} <= done.keys()
    pixels = SHAPE[0] * 2 * SHAPE[1] * SHAPE[2] // 8
    for tool, told in done.items():
        assert pixels // 2 < told["size"] < pixels + 40_000, tool
        assert told["cpu_seconds"] > 0, tool
        assert told["peak_mb"] > 10, tool


@pytest.mark.thorough
def test_each_encoding_runs_in_a_process_of_its_own_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encode, "CELLS", (Cell(objects="sr alone+key images+pdf", segments=2),))
    (told,) = run(tmp_path, 1, SHAPE)
    assert told.tool == "node"
    assert told.seconds > 0
    assert told.size > 10_000
    assert list(tmp_path.iterdir()) == []


def test_ratios_are_taken_round_by_round():
    ratios = rows([one("node", 1.0), one("highdicom", 2.0), one("node", 3.0), one("highdicom", 4.0)])
    assert ratios == [
        ["seg; 2 segments", "this node", "2.00 (1.00-3.00)", "", "4.00 (2.00-6.00)", "200", "3.0"],
        [
            "seg; 2 segments", "highdicom, label array", "3.00 (2.00-4.00)", "0.62 (0.50-0.75)", "6.00 (4.00-8.00)",
            "200", "3.0",
        ],
    ]  # fmt: skip
    text = markdown([one("node", 1.0)], {"date": "today", "load": "load 0.0"})
    assert text.splitlines()[0] == "Measured today: load 0.0."
    assert len({line.count("|") for line in text.splitlines()[2:]}) == 1


def test_the_verb_prints_json_with_every_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encode, "run", lambda _folder, _rounds: iter([one("node", 1.0)]))
    done = CliRunner().invoke(main, ["bench", "encode", "--json"])
    answer = json.loads(done.stdout)
    assert answer["runs"][0]["cell"]["objects"] == "seg"
    assert set(answer["machine"]) == {"date", "processor", "system", "disk", "load"}

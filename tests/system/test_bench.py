"""``ainode bench receive``: it runs every receiver that is here, loses nothing, and calculates what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset

from node.__main__ import main
from node.bench import aims, instances, report
from node.bench.measure import Usage
from node.bench.receive import Cell, Plan, Run, available, cells, run, servers_of
from node.bench.servers import SERVERS, Node
from node.errors import PlatformError

CELL = Cell(kind="CT", sender="scripted", associations=4)


def one(server: str, round_: int, seconds: float, latencies: tuple[float, ...] = (0.01,)) -> Run:
    return Run(
        cell=CELL,
        server=server,
        round=round_,
        instances=100,
        seconds=seconds,
        cpu_seconds=0.2,
        largest_mb=50.0 + round_,
        together_mb=90.0,
        latencies=latencies,
    )


def test_every_installed_receiver_takes_what_both_senders_send(tmp_path: Path):
    servers, _ = available(tuple(SERVERS))
    plan = Plan(servers=servers, kinds=("MR",), associations=(2,), rounds=1, instances=64, folder=tmp_path)
    if "storescp" not in servers:
        plan = replace(plan, senders=("scripted",))
    runs = list(run(plan))
    assert [done.server for done in runs] == [name for cell in cells(plan) for name in servers_of(plan, cell)]
    assert ("node-tls" in servers) == any(done.server == "node-tls" for done in runs)
    assert {done.instances for done in runs} == {64}
    for done in runs:
        assert done.seconds > 0
        assert done.cpu_seconds > 0 or done.server == "storescp"  # which needs less than a tick of 10 ms for each child
        assert 5 < done.largest_mb <= done.together_mb
        assert len(done.latencies) == (64 if done.cell.sender == "scripted" else 0)
    assert list(tmp_path.iterdir()) == []


def test_cpu_time_is_that_of_a_process_and_its_children_ended_ones_too():
    work = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; input(); subprocess.run([sys.executable, '-c', {work!r}]); print(); input()"
    command = [sys.executable, "-u", "-c", parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        usage = Usage(process.pid)
        usage.start()
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        usage.stop()
        process.communicate(b"\n")
    assert usage.cpu_seconds > 0.25
    assert 5 < usage.largest_mb <= usage.together_mb


def test_a_receiver_that_loses_an_instance_stops_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stored = Node.stored_instances
    monkeypatch.setattr(Node, "stored_instances", lambda self: stored(self) - 1)
    plan = Plan(
        servers=("node",),
        kinds=("MR",),
        associations=(1,),
        senders=("scripted",),
        rounds=1,
        instances=3,
        folder=tmp_path,
    )
    with pytest.raises(PlatformError, match="2 of 3 instances"):
        list(run(plan))
    assert list(tmp_path.iterdir()) == []


def test_the_instances_are_dicom_with_uids_of_their_own(tmp_path: Path):
    kind = instances.mr()
    instances.write_files(kind, tmp_path / "a", 0, 2)
    instances.write_files(kind, tmp_path / "b", 4, 1)
    read = [pydicom.dcmread(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    uids = [(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID) for dataset in read]
    assert len({study for study, _, _ in uids}) == 2
    assert len({uid for triple in uids for uid in triple}) == 2 + 2 + 3
    for dataset in read:
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.pixel_array.shape == (256, 256)
        assert all(pydicom.uid.UID(uid).is_valid for uid in uids[0])
        assert isinstance(dataset, Dataset)


def test_ratios_are_taken_round_by_round():
    runs = [one("node", 0, 1.0), one("orthanc", 0, 2.0), one("node", 1, 10.0), one("orthanc", 1, 30.0)]
    ours, theirs = report.lines(runs)
    assert ours.ratio is None
    assert theirs.ratio == report.Spread(median=2.5, least=2.0, greatest=3.0)
    assert (ours.rate.least, ours.rate.greatest) == (10.0, 100.0)
    assert ours.cpu_per_1000.median == pytest.approx(2.0)
    assert ours.largest_mb == 51.0


def test_latencies_are_quantiles_over_all_rounds():
    runs = [one("node", 0, 1.0, tuple(i / 1000 for i in range(99))), one("node", 1, 1.0, (5.0,))]
    (line,) = report.lines(runs)
    assert (line.p50_ms, line.p99_ms) == (pytest.approx(50.0), pytest.approx(5000.0))


def test_the_markdown_is_a_table_with_a_line_for_each_receiver():
    text = report.markdown(report.lines([one("node", 0, 1.0), one("orthanc", 0, 2.0, ())]), report.machine(Path()))
    heading, ruler, ours, theirs = [line for line in text.splitlines() if line.startswith("|")]
    assert heading.count("|") == ruler.count("|") == ours.count("|") == theirs.count("|")
    assert "| CT, 4 associations, scripted | Orthanc | 50 (50-50) | 2.00 (2.00-2.00) |" in theirs


def test_unknown_peers_are_named_and_nothing_is_started():
    done = CliRunner().invoke(main, ["bench", "receive", "--peers", "node,fast"])
    assert done.exit_code == 2
    assert "'fast': no such receiver; choose from node, node-tls, storescp, orthanc, pynetdicom" in done.output


def test_what_is_not_installed_is_skipped_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SERVERS["orthanc"], "missing", classmethod(lambda _: "Debian package orthanc"))
    assert available(("node", "orthanc")) == (("node",), {"orthanc": "Debian package orthanc"})


def test_options_choose_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plans: list[Plan] = []
    monkeypatch.setattr("node.bench.receive.run", lambda plan: plans.append(plan) or iter([one("node", 0, 1.0)]))
    chosen = ["--kind", "MR", "--sender", "dcmsend", "--sender", "scripted", "--associations", "64", "--rounds", "2"]
    options = ["--peers", "node", "--folder", str(tmp_path)]
    for more in ([], chosen, ["--quick"]):
        done = CliRunner().invoke(main, ["bench", "receive", *options, *more])
        assert done.exit_code == 0, done.output
    assert [len(cells(plan)) * plan.rounds for plan in plans] == [2 * (4 + 3) * 4, 1 * 2, 2 * 2]


def test_aims_are_held_against_the_medians_and_a_missed_one_stands_out():
    runs = [one("node", 0, 2.0, (0.02,)), one("storescp", 0, 1.0), one("node-tls", 0, 3.0)]
    said = aims.markdown(report.lines(runs))
    assert "| 0.95 x storescp made to sync at 4, 16 | **0.50**, not measured |" in said
    assert "| TLS at least 0.6 of plain at 1, 4, 16 | not measured, 0.67, not measured |" in said
    assert "| 1.3 CPU s per 1000 at 1, 4, 16 | not measured, **2.00**, not measured |" in said
    assert "| 120 MB resident per process at 64 | not measured |" in said


def test_json_holds_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.bench.receive.run", lambda _plan: iter([one("node", 0, 1.0)]))
    done = CliRunner().invoke(main, ["bench", "receive", "--json", "--peers", "node", "--folder", str(tmp_path)])
    answer = json.loads(done.stdout)
    assert answer["runs"][0]["cell"] == {"kind": "CT", "sender": "scripted", "associations": 4}
    assert set(answer["machine"]) == {"date", "processor", "system", "disk", "load"}

"""A hostile model changes nothing of the models that run next to it or after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import prying
import psutil
import pytest
from job_node import JobNode, config_of
from worker_tasks import task, wanted

from node.inference.model_process import ModelProcess
from node.isolation import SIGNALS_ABI, abi
from node.reasons import reason_text

ATTACKS = ("patch-class", "patch-library", "patch-node", "leave-files")
PIPELINES = {"honest": {}, "look-around": {"does": "look around"}} | {
    attack: {"does": attack.replace("-", " ")} for attack in ATTACKS
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobNode]:
    folder = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with JobNode(config_of(folder, pipelines=PIPELINES, trust_group="")).working() as running:
            yield running


@pytest.mark.parametrize("attack", ATTACKS[:-1])
def test_findings_of_a_pipeline_are_its_own_whatever_another_one_patches(node: JobNode, attack: str) -> None:
    before, _, after = (node.wait(node.enqueue(pipeline=name)) for name in ("honest", attack, "honest"))
    assert (before.outcome, after.outcome) == ("findings", "findings")
    assert node.wait(node.enqueue(pipeline=attack)).outcome == "no findings", "the attack is a real one"


def test_nothing_that_a_pipeline_leaves_is_seen_by_another_one(node: JobNode) -> None:
    assert node.wait(node.enqueue(pipeline="leave-files")).outcome == "findings"
    onlooker = node.wait(node.enqueue(pipeline="look-around"))
    assert json.loads(reason_text(onlooker.reason)) == []


@pytest.mark.skipif(abi() < SIGNALS_ABI, reason="this kernel has no Landlock of ABI 6")
def test_a_pipeline_cannot_signal_see_into_or_read_the_folder_of_another_ones_process(tmp_path: Path) -> None:
    worker, other = (ModelProcess("cpu", 1, 240.0, tmp_path / "sandboxes") for _ in range(2))
    try:
        worker.run(task(tmp_path, does="none"), wanted)
        [folder] = (tmp_path / "sandboxes").iterdir()
        (folder / "in" / "image").write_text("of the job that it runs now")
        (folder / "out" / "victim").write_text("its handover")
        *_, victim = psutil.Process().children(recursive=True)  # below its subreaper
        pry = {
            "does": "pry",
            "read": [str(folder / "in" / "image"), str(folder / "out" / "victim")],
            "write": str(folder / "out"),
            "outside": str(folder / "in" / "outside"),
            "unix": "",
            "datagrams": "",
            "shared": str(folder / "out" / "victim"),
            "parent": victim.pid,
        }
        tried = json.loads(other.run(task(tmp_path, **pry), wanted).reason)
        assert victim.is_running()
        assert len(list((tmp_path / "sandboxes").iterdir())) == 2, "both processes live"
    finally:
        worker.close()
        other.close()
    assert {what for what, outcome in tried.items() if outcome == "done"} == prying.ALLOWED

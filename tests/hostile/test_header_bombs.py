"""Files that take any memory or time to parse, behind the receiver: they cost the router little, and no other series.

The files are put into the spool directly, as one that an older release received.
"""

from __future__ import annotations

import threading
import time
from copy import deepcopy
from pathlib import Path

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from parsing_bombs import HEADER_BOMBS, empty_items, peak_mib, reset_peak
from pydicom import FileDataset
from pydicom.uid import generate_uid
from receivers import until
from routing_scene import CHEST, Scene

from node.confined import Bounds, ConfinedProcess
from node.errors import InputError
from node.ledger.tables import decision
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.routing.rules import Origin
from node.routing.series_examination import SeriesQuestion, examine
from node.routing.slow_examinations import Key, SlowExaminations

pytestmark = [pytest.mark.rotating, pytest.mark.timeout(1500)]

PEAK_MIB = 64
"""Above what it had: a thousand headers need less."""
RULES = CHEST.replace("prefer", "# prefer")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, RULES)
    scene.receive()  # loads what the router needs
    scene.wait(60.0)
    return scene


@pytest.mark.parametrize("kind", HEADER_BOMBS)
def test_a_header_costs_the_router_neither_memory_nor_other_series(scene: Scene, kind: str) -> None:
    images = ct_series(n=3, size=16, study=scene.study)
    bomb = scene.receive(images, contents={1: HEADER_BOMBS[kind](deepcopy(images[1]))}, address="10.6.6.6")
    sound = scene.receive()
    reset_peak()
    before, began = peak_mib(), time.process_time()
    wait_for(scene, sound, 60.0)
    assert scene.decided()[sound][0] == "routed"
    wait_for(scene, bomb, 600.0)  # past the time that missing images are waited for
    assert peak_mib() - before < PEAK_MIB
    assert time.process_time() - began < 4.0  # seconds of computing in this process
    assert describe(explain(scene.node.engine, scene.study))


def test_a_series_that_ends_the_reader_is_ignored_with_the_bound_and_not_read_again_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty files of which each takes seconds: the bound of the series ends them together."""
    small = ConfinedProcess("small header reader", readable=scene.node.spool.data_folders, bounds=Bounds(cpu_seconds=3))
    examine_with(small, scene, monkeypatch)
    images = ct_series(n=20, size=16, study=scene.study)
    bomb = scene.receive(
        images, contents=dict(enumerate(empty_items(deepcopy(image)) for image in images)), address="10.6.6.6"
    )
    sound = scene.receive()
    scene.wait(60.0)
    assert scene.decided()[sound][0] == "routed"
    wait_for(scene, bomb)
    decided = scene.decided()
    assert decided[sound][0] == "routed"
    assert decided[bomb] == (
        "ignored",
        f"its headers cannot be read: series {bomb}: reading it took more than 3 s of computing",
    )
    assert "more than 3 s of computing" in describe(explain(scene.node.engine, scene.study))
    scene.receive([one_more_of(images[0])], address="10.6.6.6")
    scene.wait(20.0)  # the quiet period is over, and the series is not read again yet
    assert generations(scene, bomb) == 1
    wait_for(scene, bomb, 60.0, generation=2)
    scene.receive([one_more_of(images[0])], address="10.6.6.6")
    scene.wait(50.0)  # the next time it waits longer
    assert generations(scene, bomb) == 2
    small.close()


def test_a_sender_of_bombs_delays_its_own_series_and_those_of_nobody_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest series is decided in the same look of the router as without the bombs."""
    small = ConfinedProcess("small header reader", readable=scene.node.spool.data_folders, bounds=Bounds(cpu_seconds=6))
    examine_with(small, scene, monkeypatch)
    bombs, honest = [], []
    for number in range(3):
        images = ct_series(n=8, size=16, study=scene.study)
        contents = dict(enumerate(empty_items(deepcopy(image), 300_000) for image in images))
        bombs.append(scene.receive(images, contents=contents, address="10.6.6.6"))
        honest.append(scene.receive(address=f"10.1.2.{number}"))
        scene.wait(60.0)
        decided = scene.decided()
        assert decided[honest[-1]][0] == "routed"
        assert not decided.keys() & set(bombs), "none of them is examined before"
    assert "read apart from others" in describe(explain(scene.node.engine, scene.study))
    late = scene.receive(address="10.6.6.6")
    scene.wait(60.0)
    assert late not in scene.decided(), "another series of that sender"
    for bomb in (*bombs, late):
        wait_for(scene, bomb)
    assert scene.decided()[late][0] == "routed"
    small.close()


def test_slow_series_of_several_senders_take_turns() -> None:
    asked: list[str] = []
    goes_on = threading.Event()

    def examine(key: Key, _: SeriesQuestion) -> None:
        """In place of a process: each examination waits until all series are there."""
        asked.append(key[1])
        assert goes_on.wait(60.0)
        raise InputError(key[1])

    slow = SlowExaminations(examine)
    slow.submit("x", ("1", "first"), SeriesQuestion(paths=(), origin=Origin()))
    until(lambda: asked == ["first"])
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        slow.submit(name[0], ("1", name), SeriesQuestion(paths=(), origin=Origin()))
    goes_on.set()
    until(lambda: slow.take(("1", "a3")) is not None)
    assert asked == ["first", "a1", "b1", "c1", "a2", "b2", "a3"]


def examine_with(process: ConfinedProcess, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a process with other bounds read the series that take long."""
    rules = scene.router._config.rules
    slow = SlowExaminations(lambda key, question: process.call(f"series {key[1]}", examine, question, rules))
    monkeypatch.setattr(scene.router._examiner, "_slow", slow)


def wait_for(scene: Scene, series: str, seconds: float = 1.0, generation: int = 1) -> None:
    """Let the router look, ever more seldom, until it has decided on a series."""
    scene.wait(seconds)
    end, pause = time.monotonic() + 600.0, 0.1  # on a busy machine what reads bombs gets little of it
    while generations(scene, series) < generation:
        assert time.monotonic() < end
        time.sleep(pause)
        pause = min(pause * 1.5, 3.0)
        scene.wait(0.1)


def one_more_of(image: FileDataset) -> FileDataset:
    more = deepcopy(image)
    more.SOPInstanceUID = more.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return more


def generations(scene: Scene, series_uid: str) -> int:
    with scene.node.engine.connect() as connection:
        rows = connection.execute(sa.select(decision).where(decision.c.series_instance_uid == series_uid))
        return len(rows.all())

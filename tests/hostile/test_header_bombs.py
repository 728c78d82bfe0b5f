"""Files that take any memory or time to parse, behind the receiver: they cost the router little, and no other series.

The files are put into the spool directly, as one that an older release received.
"""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from parsing_bombs import HEADER_BOMBS, empty_items, peak_mib, reset_peak
from pydicom import FileDataset
from pydicom.uid import generate_uid
from routing_scene import CHEST, Scene

from node.confined import Bounds, ConfinedProcess
from node.ledger.tables import decision
from node.operate.explain import describe, explain

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
    bomb = scene.receive(images, contents={1: HEADER_BOMBS[kind](deepcopy(images[1]))})
    sound = scene.receive()
    reset_peak()
    before, began = peak_mib(), time.process_time()
    scene.wait(60.0)
    scene.wait(600.0)  # past the time that missing images are waited for
    assert peak_mib() - before < PEAK_MIB
    assert time.process_time() - began < 4.0  # seconds of computing in this process
    assert scene.decided()[sound][0] == "routed"
    assert bomb in scene.decided()
    assert describe(explain(scene.node.engine, scene.study))


def test_a_series_that_ends_the_reader_is_ignored_with_the_bound_and_not_read_again_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty files of which each takes seconds: the bound of the series ends them together."""
    small = ConfinedProcess("header reader", readable=scene.node.spool.data_folders, bounds=Bounds(cpu_seconds=3))
    monkeypatch.setattr(scene.router._examiner, "_process", small)
    images = ct_series(n=20, size=16, study=scene.study)
    bomb = scene.receive(images, contents=dict(enumerate(empty_items(deepcopy(image)) for image in images)))
    sound = scene.receive()
    scene.wait(60.0)
    decided = scene.decided()
    assert decided[sound][0] == "routed"
    assert decided[bomb] == (
        "ignored",
        f"its headers cannot be read: series {bomb}: reading it took more than 3 s of computing",
    )
    assert "more than 3 s of computing" in describe(explain(scene.node.engine, scene.study))
    scene.receive([one_more_of(images[0])])
    scene.wait(20.0)  # the quiet period is over, and the series is not read again yet
    assert generations(scene, bomb) == 1
    scene.wait(60.0)
    assert generations(scene, bomb) == 2
    scene.receive([one_more_of(images[0])])
    scene.wait(50.0)  # the next time it waits longer
    assert generations(scene, bomb) == 2
    small.close()


def one_more_of(image: FileDataset) -> FileDataset:
    more = deepcopy(image)
    more.SOPInstanceUID = more.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return more


def generations(scene: Scene, series_uid: str) -> int:
    with scene.node.engine.connect() as connection:
        rows = connection.execute(sa.select(decision).where(decision.c.series_instance_uid == series_uid))
        return len(rows.all())

"""Rules that ask for the body region: pixels are read only where a decision depends on them, and nobody waits long."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from body_region_series import chest_series
from click.testing import CliRunner
from dicom_files import ct_series, write
from routing_scene import Scene

from node.__main__ import main
from node.config import parse
from node.errors import PlatformError
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.routing import body_regions
from node.routing.body_regions import WAIT_SECONDS, needs_body_region, unread
from node.routing.replay_regions import recorded_body_region
from node.routing.rules import Origin, SeriesHeader, decide
from node.studies.characteristics.characteristic import likely

RULES = """
[series]
quiet_seconds = 10.0
[pipelines.scripted]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 104
[[rules]]
name = "chest"
match = { Modality = "CT", %s }
pipelines = ["scripted"]
destinations = ["pacs"]
"""
CHEST = RULES % 'body_region = "chest"'
ABDOMEN = RULES % 'body_region = ["abdomen", "pelvis"]'
NOT_ASKED = RULES % 'SeriesDescription = "thorax*", body_region = "chest"'


class Reader:
    """In place of the process that reads pixels."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.calls = function, 0

    def call(self, *_: Any) -> Any:
        self.calls += 1
        return self.function()


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, request.param)
    yield scene
    scene.node.engine.dispose()


def decided(scene: Scene, series: str, seconds: float = 60.0) -> tuple[str, str]:
    """The decision, once the pixels have been read."""
    end = time.monotonic() + seconds
    while series not in scene.decided():
        assert time.monotonic() < end
        time.sleep(0.1)
        scene.wait(0.1)
    return scene.decided()[series]


@pytest.mark.parametrize("scene", [CHEST], indirect=True)
def test_a_chest_that_is_labelled_abdomen_matches_by_its_pixels_and_the_disagreement_is_shown(scene: Scene) -> None:
    series = scene.receive(chest_series(scene.study, BodyPartExamined="ABDOMEN"))
    scene.wait(11.0)
    assert "in its pixels" in describe(explain(scene.node.engine, scene.study)) or series in scene.decided()
    assert decided(scene, series) == ("routed", "matches 'chest'")
    shown = describe(explain(scene.node.engine, scene.study))
    assert "body_region chest (likely: pixels chest " in shown
    assert "BodyPartExamined ABDOMEN; header and pixels disagree" in shown


@pytest.mark.parametrize("scene", [ABDOMEN], indirect=True)
def test_a_rule_for_another_region_does_not_match_it(scene: Scene) -> None:
    series = scene.receive(chest_series(scene.study, BodyPartExamined="ABDOMEN"))
    scene.wait(11.0)
    assert decided(scene, series)[0] == "ignored"
    assert "body_region wanted ['abdomen', 'pelvis'], found chest" in describe(explain(scene.node.engine, scene.study))


@pytest.mark.parametrize("scene", [RULES % 'body_region = ["chest", "unknown"]'], indirect=True)
def test_a_rule_can_take_what_is_not_recognized(scene: Scene) -> None:
    series = scene.receive()
    scene.wait(11.0)
    assert decided(scene, series)[0] == "routed"


@pytest.mark.parametrize("scene", [NOT_ASKED], indirect=True)
def test_pixels_are_not_read_when_another_condition_decides(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.router._body_regions, "wait", lambda *_: pytest.fail("it is not needed"))
    series = scene.receive(chest_series(scene.study))
    scene.wait(11.0)
    assert scene.decided()[series][0] == "ignored"
    assert "body_region chest" not in describe(explain(scene.node.engine, scene.study))


def test_a_reader_that_does_not_answer_delays_its_series_a_bounded_time_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    reader = Reader(lambda: goes_on.wait(60.0))
    monkeypatch.setattr(body_regions, "shared_process", lambda *_, **__: reader)
    scene = Scene(tmp_path, CHEST)
    waits = scene.receive(chest_series(scene.study))
    other = scene.receive(ct_series(3, 16), Modality="MR")
    scene.wait(11.0)
    assert other in scene.decided()
    assert waits not in scene.decided()
    scene.wait(WAIT_SECONDS - 1.0)
    assert waits not in scene.decided()
    scene.wait(1.0)
    scene.wait(1.0)
    assert scene.decided()[waits][0] == "ignored"
    assert "body_region unknown (pixels not read within 300 s" in describe(explain(scene.node.engine, scene.study))
    assert reader.calls == 1
    goes_on.set()
    scene.node.engine.dispose()


@pytest.mark.parametrize("failures", [2, 3])
def test_a_reader_that_ends_is_asked_three_times_before_the_region_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    def end() -> object:
        if reader.calls <= failures:
            raise PlatformError("series 1.2: the body region reader ended with SIGKILL")
        return likely(["chest"], [("pixels", "chest 8 of 8 slices")])

    reader = Reader(end)
    monkeypatch.setattr(body_regions, "shared_process", lambda *_, **__: reader)
    scene = Scene(tmp_path, CHEST)
    series = scene.receive(chest_series(scene.study))
    scene.wait(11.0)
    outcome = decided(scene, series)[0]
    assert (outcome, reader.calls) == (("routed", 3) if failures < 3 else ("ignored", 3))
    shown = describe(explain(scene.node.engine, scene.study))
    assert ("pixels not read series 1.2: the body region reader ended with SIGKILL" in shown) is (failures == 3)
    recorded = asdict(unread("it died")) | {"certainty": "unknown"}
    assert recorded_body_region({"body_region": recorded}) == {}, "a replay reads the pixels"
    scene.node.engine.dispose()


URGENT = CHEST.replace('name = "chest"', 'name = "chest"\npriority = "high"').replace(
    "quiet_seconds = 10.0", "quiet_seconds = 60.0\nstat_quiet_seconds = 3.0"
)


@pytest.mark.parametrize("scene", [URGENT], indirect=True)
def test_a_rule_of_high_priority_waits_no_longer_because_it_asks_for_the_region(scene: Scene) -> None:
    series = scene.receive(chest_series(scene.study))
    scene.wait(4.0)
    assert decided(scene, series, 50.0) == ("routed", "matches 'chest'")
    assert "none for 3 s" in describe(explain(scene.node.engine, scene.study))


@pytest.mark.parametrize("scene", [CHEST], indirect=True)
def test_more_images_are_recognized_again(scene: Scene) -> None:
    images = chest_series(scene.study)
    series = scene.receive(images[:4])
    scene.wait(11.0)
    decided(scene, series)
    assert "of 4 slices" in describe(explain(scene.node.engine, scene.study))
    scene.receive(images[4:])
    scene.wait(11.0)
    end = time.monotonic() + 60.0
    while "of 8 slices" not in describe(explain(scene.node.engine, scene.study)):
        assert time.monotonic() < end
        time.sleep(0.1)
        scene.wait(0.1)


@pytest.mark.parametrize(
    ("conditions", "needed"),
    [
        ('body_region = "chest"', True),
        ('SeriesDescription = "x"', False),
        ('SeriesDescription = "x", body_region = "chest"', False),
    ],
)
def test_a_region_is_needed_only_where_the_rest_of_a_rule_matches(conditions: str, *, needed: bool) -> None:
    rules = parse(RULES % conditions).rules
    decision = decide(SeriesHeader.of(ct_series(2, 16)), rules, Origin())
    assert needs_body_region(decision.trace, rules) is needed


def test_prefer_and_unless_and_companions_ask_for_the_region_as_well() -> None:
    head, _, _ = (RULES % 'SeriesDescription = "*"').partition("[[rules]]")
    common = 'name = "r"\npipelines = ["scripted"]\ndestinations = ["pacs"]\nmatch = { Modality = "CT" }\n'
    for keys in (
        'prefer = [{ body_region = "chest" }]',
        'unless = { body_region = "head" }',
        '[rules.companions.other]\nmatch.Modality = "CT"\nprefer = [{ body_region = "chest" }]',
        '[rules.companions.other.match]\nbody_region = "head"',
    ):
        rules = parse(f"{head}[[rules]]\n{common}{keys}\n").rules
        decision = decide(SeriesHeader.of(ct_series(2, 16)), rules, Origin())
        assert needs_body_region(decision.trace, rules), keys


@pytest.mark.thorough
def test_rules_test_shows_the_region_where_a_rule_asks_for_it(tmp_path: Path) -> None:
    write(chest_series(BodyPartExamined="ABDOMEN"), tmp_path / "files")
    answers = {}
    for name, text in (("asked", CHEST), ("not", NOT_ASKED)):
        (tmp_path / name).write_text(text)
        done = CliRunner().invoke(
            main, ["rules", "test", "--config", str(tmp_path / name), str(tmp_path / "files"), "--json"]
        )
        assert done.exit_code == 0, done.output
        (answers[name],) = json.loads(done.stdout)
    assert answers["asked"]["outcome"] == "routed"
    assert answers["asked"]["characteristics"]["body_region"]["values"] == ["chest"]
    assert "body_region" not in answers["not"]["characteristics"]


@pytest.mark.parametrize("scene", [RULES % 'SeriesDescription = "nothing"'], indirect=True)
def test_replay_reads_the_pixels_of_series_that_were_decided_without_them(scene: Scene, tmp_path: Path) -> None:
    series = scene.receive(chest_series(scene.study, BodyPartExamined="ABDOMEN"))
    scene.wait(11.0)
    assert scene.decided()[series][0] == "ignored"
    storage = f'[storage]\nfolder = "{tmp_path}"\n'
    (tmp_path / "old.toml").write_text(storage + RULES % 'SeriesDescription = "nothing"')
    (tmp_path / "new.toml").write_text(storage + CHEST)
    arguments = ["rules", "replay", "--config", str(tmp_path / "old.toml"), str(tmp_path / "new.toml"), "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    (change,) = json.loads(done.stdout)["changes"]
    assert (change["series_instance_uid"], list(change["after"])) == (series, ["scripted"])

"""Rules that one machine of a fleet publishes are those of all, and nobody's change is lost in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from node.config import load
from node.config.rules_text import rules_text
from node.errors import ConfigError, PlatformError
from node.ledger.published_rules import PublishedRules, newest_rules
from node.operate.fleet_rules import FleetRules, RulesWatch

TEXT = """\
[pipelines.own]
factory = "pipelines.nodule:create"

# Chest.
[[rules]]
name = "chest"
pipelines = ["own"]

[web]
port = {port}   # of this machine
"""
Make = Callable[[str], FleetRules]
pytestmark = postgres.BOTH


@pytest.fixture
def machine(engine: sa.Engine, tmp_path: Path) -> Make:
    def make(name: str) -> FleetRules:
        path = tmp_path / name / "config.toml"
        path.parent.mkdir()
        path.write_text(TEXT.format(port=8000 + len(list(tmp_path.iterdir()))))
        made = FleetRules(path=path, folder=tmp_path / "versions", reload=lambda: None, engine=engine)
        made.take_over()
        return made

    return make


def rule_names(of: FleetRules) -> list[str]:
    return [rule.name for rule in load(of.path).rules]


def apply(of: FleetRules, name: str, *, opened_with: str = "") -> None:
    before = rules_text(of.whole())
    of.apply(before.replace("chest", name), instead_of=opened_with or before, who="anna", why="a trial")


def test_rules_that_one_machine_applies_are_taken_over_by_all_with_who_and_why(machine: Make):
    a, b = machine("a"), machine("b")  # with one storage folder, which machines may share
    own = b.whole().partition("[web]")[2]
    apply(a, "thorax")
    assert (rule_names(a), rule_names(b)) == (["thorax"], ["chest"])
    assert b.take_over().number == a.take_over().number == 1
    assert rule_names(b) == ["thorax"]
    assert b.whole().partition("[web]")[2] == own
    newest = b.versions()[0]
    assert (newest.who, newest.why, rules_text(b.whole())) == ("anna", "a trial", newest.text)


def test_rules_edited_in_one_file_stay_until_the_next_publication_and_can_be_published(machine: Make):
    a, b = machine("a"), machine("b")
    apply(a, "thorax")
    b.take_over()
    b.path.write_text(b.whole().replace("thorax", "lungs"))
    b.take_over()
    assert rule_names(b) == ["lungs"]
    later = machine("later")  # made from a file that somebody had edited since the publication
    assert rule_names(later) == ["chest"]
    assert b.publish(who="root", why="as edited") == 2
    for one in (a, later):
        one.take_over()
    assert (rule_names(a), rule_names(later)) == (["lungs"], ["lungs"])
    with pytest.raises(ConfigError, match="number 2 already"):
        a.publish(who="root", why="nothing new")


def test_what_another_machine_published_is_not_replaced_unseen(machine: Make):
    a, b = machine("a"), machine("b")
    apply(a, "thorax")
    with pytest.raises(ConfigError, match="anna has published rules"):
        apply(b, "lungs")
    with pytest.raises(ConfigError, match="--replace 1"):
        b.publish(who="root", why="not seen")
    assert rule_names(b) == ["chest"]
    opened_with = rules_text(b.whole())
    b.take_over()
    with pytest.raises(ConfigError, match="changed meanwhile"):
        apply(b, "lungs", opened_with=opened_with)
    assert rule_names(b) == ["thorax"]


def test_of_two_that_publish_in_the_same_instant_one_is_told_of_the_other(
    machine: Make, monkeypatch: pytest.MonkeyPatch
):
    machines, both = {"thorax": machine("a"), "lungs": machine("b")}, threading.Barrier(2)

    def newest(connection: sa.Connection) -> PublishedRules | None:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # until the other one has come as far, unless it is kept from that
        return newest_rules(connection)

    monkeypatch.setattr("node.operate.fleet_rules.newest_rules", newest)

    def publish(name: str) -> str:
        of = machines[name]
        of.path.write_text(of.whole().replace("chest", name))
        try:
            return str(of.publish(who=name, why=""))
        except ConfigError as error:
            return str(error).partition(" (number")[0]

    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(publish, machines))
    assert told in (["1", "thorax has published rules"], ["lungs has published rules", "1"])


def test_a_machine_that_cannot_take_rules_over_keeps_its_own_and_tries_again(
    machine: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    a, b = machine("a"), machine("b")
    b.path.write_text(b.whole().replace(".own]", ".other]").replace('"own"', '"other"'))
    before, watch = b.whole(), RulesWatch(b, load(b.path))
    apply(a, "thorax")
    monkeypatch.setattr("node.operate.fleet_rules.AGAIN_SECONDS", 0.0)
    for _ in range(3):
        watch.look()
    assert b.whole() == before
    (said,) = [record.message for record in caplog.records if "not taken over" in record.message]
    assert "pipelines names 'own', which is not defined" in said
    with pytest.raises(ConfigError, match="log says why"):
        apply(b, "lungs")
    b.path.write_text(b.whole() + '[pipelines.own]\nfactory = "pipelines.nodule:create"\n')
    watch.look()
    assert rule_names(b) == ["thorax"]


def test_processes_have_their_supervisor_read_the_file_again_once(machine: Make, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    monkeypatch.setattr("node.operate.fleet_rules.notify", told.append)
    a, b = machine("a"), machine("b")
    of_a, of_b = RulesWatch(a, load(a.path)), RulesWatch(b, load(b.path))
    for watch in (of_a, of_b):
        watch.look()
    apply(a, "thorax")
    for watch in (of_a, of_b, of_a, of_b):
        watch.look()
    assert told == ["RULES=1", "RULES=1"]
    RulesWatch(a, load(a.path)).look()  # of the process that was started with the new rules
    assert told == ["RULES=1", "RULES=1"]
    old = load(a.path).model_copy(update={"rules": ()})  # of one that was given the configuration a moment before
    RulesWatch(a, old).look()
    assert told == ["RULES=1"] * 3


def test_a_file_that_may_not_be_written_is_neither_changed_nor_given_a_version(
    machine: Make, monkeypatch: pytest.MonkeyPatch
):
    a = machine("a")
    monkeypatch.setattr(FleetRules, "is_writable", False)
    with pytest.raises(PlatformError, match="may not write"):
        apply(a, "thorax")
    assert (rule_names(a), a.versions(), a.take_over().number) == (["chest"], [], 0)

"""Rules that one machine of a fleet publishes are those of all, and nobody's change is lost in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from node.config import load
from node.config.rules_text import rules_text
from node.errors import ConfigError
from node.operate.fleet_rules import FleetRules
from node.operate.rules_file import taken_number

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
        storage = tmp_path / name
        storage.mkdir()
        path = storage / "config.toml"
        path.write_text(TEXT.format(port=8000 + len(list(tmp_path.iterdir()))))
        return FleetRules(engine, path, storage)

    return make


def rule_names(of: FleetRules) -> list[str]:
    return [rule.name for rule in load(of.file.path).rules]


def apply(of: FleetRules, name: str, *, opened_with: str = "") -> None:
    before = rules_text(of.file.whole())
    of.file.apply(before.replace("chest", name), instead_of=opened_with or before, who="anna", why="a trial")


def test_rules_that_one_machine_applies_are_taken_over_by_all_with_who_and_why(machine: Make):
    a, b = machine("a"), machine("b")
    own = b.file.whole().partition("[web]")[2]
    for one in (a, b):
        one.look()
    assert taken_number(b.file.path.parent) == 0
    apply(a, "thorax")
    assert taken_number(a.file.path.parent) == 1, "the supervisors of this machine read the file again"
    assert (rule_names(a), rule_names(b)) == (["thorax"], ["chest"])
    b.look()
    assert rule_names(b) == ["thorax"]
    assert taken_number(b.file.path.parent) == 1
    assert b.file.whole().partition("[web]")[2] == own
    newest, first = b.file.versions()
    assert (newest.who, newest.why, rules_text(b.file.whole())) == ("anna", "a trial", newest.text)
    assert "chest" in first.text


def test_rules_edited_in_one_file_stay_until_the_next_publication_and_can_be_published(machine: Make):
    a, b, later = machine("a"), machine("b"), machine("later")
    apply(a, "thorax")
    b.look()
    b.file.path.write_text(b.file.whole().replace("thorax", "lungs"))
    b.look()
    assert rule_names(b) == ["lungs"]
    assert b.publish_file(who="root", why="as edited") == 2
    for one in (a, later):
        one.look()
    assert (rule_names(a), rule_names(later)) == (["lungs"], ["lungs"])


def test_an_editor_that_has_not_seen_what_another_machine_published_changes_nothing(machine: Make):
    a, b = machine("a"), machine("b")
    apply(a, "thorax")
    with pytest.raises(ConfigError, match="another machine has published"):
        apply(b, "lungs")
    assert rule_names(b) == ["chest"]
    opened_with = rules_text(b.file.whole())
    b.look()
    with pytest.raises(ConfigError, match="changed meanwhile"):
        apply(b, "lungs", opened_with=opened_with)
    assert rule_names(b) == ["thorax"]


def test_a_machine_without_a_pipeline_keeps_its_rules_and_says_so_once(machine: Make, caplog: pytest.LogCaptureFixture):
    a, b = machine("a"), machine("b")
    b.file.path.write_text(b.file.whole().replace(".own]", ".other]").replace('"own"', '"other"'))
    before = b.file.whole()
    apply(a, "thorax")
    for _ in range(3):
        b.look()
    assert b.file.whole() == before
    assert taken_number(b.file.path.parent) == 0
    (said,) = [record.message for record in caplog.records if "not taken over" in record.message]
    assert "pipelines names 'own', which is not defined" in said

"""The configuration file with its versions, changed from outside of the dashboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import load
from node.config.rules_text import rules_text
from node.errors import ConfigError
from node.operate.rules_file import RulesFile

TEXT = """\
[pipelines.nodule]
factory = "pipelines.nodule:create"

# Chest.
[[rules]]
name = "chest"
pipelines = ["nodule"]

[web]
enabled = true   # a comment
"""
TABLE = '[pipelines.new]\nfactory = "pipelines.model_file:create"\n'


def file_of(tmp_path: Path) -> RulesFile:
    path = tmp_path / "config.toml"
    path.write_text(TEXT)
    return RulesFile(path=path, folder=tmp_path / "versions", reload=lambda: None)


def test_a_pipeline_and_the_rule_that_names_it_are_written_as_one_version_that_can_be_left_again(tmp_path: Path):
    file = file_of(tmp_path)
    before = rules_text(TEXT)
    part = before.replace('["nodule"]', '["nodule"]\nshadow = ["new"]')
    with pytest.raises(ConfigError, match=r"add \[pipelines.new\]"):
        file.apply(part, instead_of=before, who="somebody", why="a trial")
    file.apply(part, instead_of=before, who="somebody", why="a trial", tables=TABLE)
    config = load(file.path)
    assert (config.rules[0].shadow, sorted(config.pipelines)) == (("new",), ["new", "nodule"])
    assert "# a comment" in file.whole()
    newest, first = file.versions()
    assert (newest.who, newest.why, newest.number) == ("somebody", "a trial", 2)
    file.apply(first.text, instead_of=newest.text, who="somebody", why="back")
    assert load(file.path).rules[0].shadow == ()


def test_a_table_that_the_file_has_already_is_not_written(tmp_path: Path):
    file = file_of(tmp_path)
    part = rules_text(TEXT)
    with pytest.raises(ConfigError, match="not valid TOML"):
        file.apply(part, instead_of=part, who="", why="", tables=TABLE.replace("new", "nodule"))
    assert (file.whole(), file.versions()) == (TEXT, [])

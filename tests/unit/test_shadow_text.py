"""A candidate added to rules in the text of the file: comments stay, and nothing else changes."""

from __future__ import annotations

import tomllib

import pytest

from node.config.shadow_text import with_shadow
from node.errors import ConfigError

RULES = """\
# Where results go.
[destinations.pacs]
folder = "/x"

[[rules]]   # chest
name = "chest CT"
pipelines = ["nodule"]  # the champion
destinations = ["pacs"]
[rules.match]
Modality = "CT"

# Brains.
[[rules]]
name = "brain"
pipelines = [
  "tumor",
]
shadow = ["tumor-2"]   # a trial
"""


def test_the_candidate_stands_below_the_champion_and_comments_stay() -> None:
    changed = with_shadow(RULES, ["chest CT"], "new")
    assert changed == RULES.replace("# the champion\n", '# the champion\nshadow = ["new"]\n')


def test_a_rule_with_a_trial_gets_a_second_one() -> None:
    changed = with_shadow(RULES, ["brain"], "new")
    assert 'shadow = ["tumor-2", "new"]   # a trial\n' in changed
    assert with_shadow(changed, ["brain"], "new") == changed


def test_several_rules_are_changed_at_once() -> None:
    rules = tomllib.loads(with_shadow(RULES, ["brain", "chest CT"], "new"))["rules"]
    assert [rule["shadow"] for rule in rules] == [["new"], ["tumor-2", "new"]]


@pytest.mark.parametrize("written", ["shadow = [ ]", "shadow = []", 'shadow = [ "a", ]', 'shadow = [\n  "a",\n]'])
def test_a_list_is_continued_as_it_is_written_or_refused(written: str) -> None:
    text = f'[[rules]]\nname = "r"\npipelines = [\n  "p",\n]\n{written}\n'
    before = tomllib.loads(text)["rules"][0]["shadow"]
    if "\n" in written:
        with pytest.raises(ConfigError, match="cannot be changed as the file is written"):
            with_shadow(text, ["r"], "new")
    else:
        assert tomllib.loads(with_shadow(text, ["r"], "new"))["rules"][0]["shadow"] == [*before, "new"]


def test_rules_on_one_line_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="add 'new' to its shadow on the machine"):
        with_shadow('rules = [{ name = "r", pipelines = ["p"] }]\n', ["r"], "new")

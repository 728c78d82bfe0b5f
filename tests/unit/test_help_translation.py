"""Help of every verb in German and Chinese, by the locale, and within the columns of a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import catalogs
import click
import pytest
from babel.messages.mofile import read_mo
from click.testing import CliRunner

from node.__main__ import main
from node.translation import language_of_environment
from node.translation.cells import cells, padded, wrapped

LOCALES = {"de": "de_DE.UTF-8", "zh": "zh_CN.UTF-8"}
NAMES = re.compile(r"--[a-z-]+|`[^`]+`|\b[A-Z_]{4,}\b|\[[a-z ]+\] [a-z_]+")
"""What is the same in every language: options, commands, arguments, keys."""


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, verb in command.commands.items() if isinstance(command, click.Group) else ():
        yield from verbs(verb, (*path, name))


@pytest.fixture(autouse=True)
def _help_option_of_no_other_test():
    """click keeps the option --help that a command has shown once; a process of ainode shows one."""
    every = [main]
    for command in every:
        command._help_option = None
        every += command.commands.values() if isinstance(command, click.Group) else ()


def shown(*arguments: str, language: str, **environment: str) -> str:
    done = CliRunner().invoke(main, arguments, env={"LC_ALL": LOCALES[language], **environment}, terminal_width=80)
    return done.output


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_help_of_every_verb_is_translated_and_no_line_is_wider_than_the_terminal(language: str):
    heading = {"de": "Optionen:", "zh": "选项:"}[language]
    for path in verbs(main):
        text = shown(*path, "--help", language=language)
        assert heading in text, path
        assert not re.search(r"Usage:|Options:|Commands:|Show this|\[default", text), path
        assert [line for line in text.splitlines() if cells(line) > 80] == [], path


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_translated_help_names_the_same_options_commands_and_arguments(language: str):
    translations = {message.id: message.string for message in catalogs.read_catalog(language) if message.id}
    for text in catalogs.help_texts(main):
        names = {re.sub(r"\s+", " ", name) for name in NAMES.findall(text)}
        assert {name for name in names if name not in translations[text]} <= {"PACS", "SIGTERM"}, text


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_what_click_says_is_translated_and_compiled(language: str):
    catalog = catalogs.read_catalog(language, of_click=True)
    for message in catalogs.extracted_of_click():
        translation = catalog.get(message.id if isinstance(message.id, str) else message.id[0])
        assert not message.id or (translation and all(catalogs.strings_of(translation))), message.id
    with catalogs.catalog_path(language, of_click=True).with_suffix(".mo").open("rb") as file:
        compiled, source = (
            {str(tuple(message.id)): catalogs.strings_of(message) for message in messages if message.id}
            for messages in (read_mo(file), catalog)
        )
    assert compiled == source, "run tests/support/catalogs.py"


def test_errors_of_the_command_line_are_in_the_language_of_help():
    assert "Fehler: Es gibt keine Option '--nothing'" in shown("status", "--nothing", language="de")
    assert "错误：没有命令 'nothing'" in shown("nothing", language="zh")


def test_completions_are_english():
    text = shown(language="de", _AINODE_COMPLETE="zsh_complete", COMP_WORDS="ainode stat", COMP_CWORD="1")
    assert "Show counts, waiting and failed work" in text


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "zh_CN.GB18030"}, "zh"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "", "LANGUAGE": ""}, "de"),
        ({"LANG": "en_GB.UTF-8", "LANGUAGE": "fr:zh_CN:de"}, "zh"),
        ({"LANG": "de_AT@euro", "LANGUAGE": "en:de"}, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "de"}, "en"),
        ({"LANG": "POSIX"}, "en"),
        ({"LANGUAGE": "de"}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale(environment: dict[str, str], language: str):
    assert language_of_environment(environment) == language


def test_lines_are_broken_by_cells_and_not_before_punctuation():
    assert wrapped("数据库中的全部内容，均已对上。", 12) == ["数据库中的全", "部内容，均已", "对上。"]
    assert wrapped("核对数据库，用 ainode verify 完成", 12) == ["核对数据库，", "用 ainode", "verify 完成"]
    assert wrapped("All of it", 7) == ["All of", "it"]
    assert wrapped("", 7) == [""]
    assert padded("数据库", 8) == "数据库  "


def test_verbs_print_in_the_language_of_the_locale_and_json_in_english(tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n', encoding="utf-8")
    assert re.search(r"^in Quarantäne +0$", shown("status", "--config", str(config), language="de"), re.MULTILINE)
    lines = shown("status", "--config", str(config), language="zh").splitlines()
    assert {cells(line[: -len(line.split()[-1])]) for line in lines[:7]} == {17}
    assert '"quarantined": 0' in shown("status", "--json", "--config", str(config), language="de")
    assert shown("account", "--config", str(config), language="zh").endswith("全部对上。\n")
    assert "Jede Datei ist so, wie sie" in shown("verify", "--config", str(config), language="de")

"""Help of the verbs in the language of the user's locale: German or Chinese in place of English."""

from __future__ import annotations

import gettext as standard
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from copy import copy
from io import TextIOWrapper
from pathlib import Path

import click
from click.formatting import measure_table

from node import translation
from node.translation import InterfaceLanguage, gettext, in_language
from node.translation.cells import wrapped

_OF_CLICK = Path(translation.__file__).with_name("click")
"""Catalogs of what click says itself, compiled as the gettext of Python reads them."""
_RAW = "\b\n"
"""Begins a paragraph that click leaves as it is."""


def localized(command: click.Command, language: InterfaceLanguage) -> click.Command:
    """Return a command with its help in a language; click itself, and the output of this process, follow."""
    standard.bindtextdomain("messages", str(_OF_CLICK))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale need not have every letter
    with in_language(language):
        return _translated(command)


def help_texts(command: click.Command) -> Iterator[str]:
    """Return every text of the help of a command and of the verbs below it, as the catalogs have them."""
    yield from (text for _, text in _paragraphs(command.help or ""))
    for parameter in command.params:
        yield from filter(None, (getattr(parameter, name, None) for name in ("help", "prompt")))
    for verb in command.commands.values() if isinstance(command, click.Group) else ():
        yield from help_texts(verb)


def _translated(command: click.Command) -> click.Command:
    other = copy(command)
    paragraphs = [mark + gettext(text) for mark, text in _paragraphs(command.help or "")]
    other.help = "\n\n".join(paragraphs)
    other.short_help = paragraphs[0].rstrip(".。") if paragraphs else None
    other.params = [_translated_parameter(parameter) for parameter in command.params]
    other.context_class = _Context
    if isinstance(other, click.Group):
        other.commands = {name: _translated(verb) for name, verb in other.commands.items()}
    return other


def _translated_parameter(parameter: click.Parameter) -> click.Parameter:
    other = copy(parameter)
    if isinstance(other, click.Option):
        other.help = gettext(other.help) if other.help else other.help
        other.prompt = gettext(other.prompt) if other.prompt else other.prompt
    return other


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Return the paragraphs of a docstring: each in one line, or after the mark of click as it is."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith(_RAW):
            yield _RAW, paragraph.removeprefix(_RAW).rstrip()
        elif paragraph.strip():
            yield "", " ".join(paragraph.split())


class _Formatter(click.HelpFormatter):
    """Wraps by the cells of a terminal, and also between characters that have no spaces around them."""

    def write_text(self, text: str) -> None:
        width = self.width - self.current_indent
        paragraphs = [
            paragraph if paragraph.startswith(_RAW) else _RAW + "\n".join(wrapped(paragraph, width))
            for paragraph in text.split("\n\n")
        ]
        super().write_text("\n\n".join(paragraphs))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        rows = list(rows)
        width = self.width - min(measure_table(rows)[0], col_max) - col_spacing - 2
        raw = [(first, _RAW + "\n".join(wrapped(second, width)) if second else "") for first, second in rows]
        super().write_dl(raw, col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter

"""Sentences of dashboard, commands and PDF reports in the language of their reader, from GNU gettext catalogs.

The source is English: a text without a translation is shown in English. A context without a language, such as the log
or the audit trail, speaks English. ``tests/support/catalogs.py`` extracts the texts and completes the catalogs
(``LANGUAGE.po``). They are read here, because Babel takes longer than ``ainode --help`` may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Literal, Self

InterfaceLanguage = Literal["en", "de", "zh"]
LANGUAGES: dict[InterfaceLanguage, tuple[str, str]] = {
    "en": ("en", "English"),
    "de": ("de", "Deutsch"),
    "zh": ("zh-Hans", "中文"),
}
"""Tag (BCP 47) of each language, and its name in itself."""
_language: ContextVar[InterfaceLanguage] = ContextVar("language", default="en")
_NUMBER = re.compile(r"-?\d+\.\d+")


class Sentence(str):
    """An English text that has its translations with it, from the process of a pipeline to the report.

    Formatting (``f"{text}"``) shows it in the language that is spoken; as a ``str`` it is English, and what methods of
    ``str`` return is English alone.
    """

    __slots__ = ("translations",)
    translations: Mapping[str, str]
    """By language, without English."""

    def __new__(cls, text: str, translations: Mapping[str, str]) -> Self:
        """Return the text with its translations."""
        text_with_translations = super().__new__(cls, text)
        text_with_translations.translations = dict(translations)
        return text_with_translations

    def __format__(self, spec: str) -> str:
        return format(self.translations.get(_language.get()) or str(self), spec)

    def __reduce__(self) -> tuple[type[Sentence], tuple[str, Mapping[str, str]]]:
        return Sentence, (str(self), self.translations)


def translations_of(text: str) -> Mapping[str, str]:
    """Return the translations that a text has with it, by language without English."""
    return text.translations if isinstance(text, Sentence) else {}


@contextmanager
def in_language(language: InterfaceLanguage) -> Iterator[None]:
    """Speak a language until the end of the ``with`` block, in this thread or task alone."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def current_language() -> InterfaceLanguage:
    """Return the language that is spoken here."""
    return _language.get()


def language_of_environment(environment: Mapping[str, str]) -> InterfaceLanguage:
    """Return the language of the locale (POSIX, XBD 8.2); ``LANGUAGE`` may prefer others (GNU gettext, 2.3.3)."""
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "C")
    if _name(locale) in ("c", "posix"):
        return "en"
    for name in map(_name, (environment.get("LANGUAGE") or locale).split(":")):
        for language in LANGUAGES:
            if name == language:
                return language
    return "en"


def _name(locale: str) -> str:
    return re.split(r"[_.@-]", locale)[0].lower()


class _Formatter(Formatter):
    """Fills in values as ``str.format`` does; a number that the text formats gets the language's decimal symbol."""

    def format_field(self, value: object, format_spec: str) -> str:
        text: str = super().format_field(value, format_spec)
        return decimal(text) if format_spec and isinstance(value, float) else text


_FORMATTER = _Formatter()


def gettext(text: str, /, **values: object) -> str:
    """Return the translation of a text, with its values in place of their names in braces."""
    translation = _catalog(_language.get()).get(text, (text,))[0]
    return _FORMATTER.vformat(translation, (), values) if values else translation


def ngettext(singular: str, plural: str, number: int, /, **values: object) -> str:
    """Return the translation for a number, which is ``{number}`` in the texts, with other values as ``gettext``."""
    return _FORMATTER.vformat(plural_form(singular, plural, number), (), {"number": number, **values})


def plural_form(singular: str, plural: str, number: int) -> str:
    """Return the translation for a number without filling in anything."""
    forms = _catalog(_language.get()).get(singular, (singular, plural))
    return forms[0] if number == 1 else forms[-1]


def in_every_language(say: Callable[[], str]) -> Sentence:
    """Return what ``say`` returns in each language."""
    texts: dict[str, str] = {}
    for language in LANGUAGES:
        with in_language(language):
            texts[language] = str(f"{say()}")
    return Sentence(texts.pop("en"), texts)


def sentence(text: str, /, **values: object) -> Sentence:
    """Return a text in every language, as ``gettext``; a number in a value gets the decimal symbol of each."""
    return in_every_language(
        lambda: gettext(
            text,
            **{
                name: decimal(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
                for name, value in values.items()
            },
        )
    )


def joined(parts: Iterable[str], separator: str) -> str:
    """Return parts, sentences among them, as one; the separator, such as ``", "``, is translated as well."""
    texts = tuple(parts)
    if not any(isinstance(text, Sentence) for text in texts):
        return separator.join(texts)
    return in_every_language(lambda: gettext(separator).join(f"{text}" for text in texts))


def marked(text: str) -> str:
    """Return a text of a table as it is; the mark has it extracted, ``gettext`` translates it when it is shown."""
    return text


def decimal(text: str) -> str:
    """Return a number with the decimal symbol of the language."""
    return text.replace(".", ",") if _language.get() == "de" else text


@cache
def _catalog(language: InterfaceLanguage) -> Mapping[str, tuple[str, ...]]:
    return {} if language == "en" else read_catalog(Path(__file__).with_name(f"{language}.po"))


def read_catalog(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the translation of each text of a catalog (GNU gettext, ``.po``), in each form of the plural."""
    texts: dict[str, tuple[str, ...]] = {}
    entry: dict[str, str] = {}
    field = ""
    for line in (*path.read_text(encoding="utf-8").splitlines(), ""):
        if line.startswith("msg"):
            field, _, quoted = line.partition(" ")
            entry[field] = json.loads(quoted)
        elif line.startswith('"'):
            entry[field] += json.loads(line)
        elif entry and not line:
            texts[entry["msgid"]] = tuple(text for name, text in entry.items() if name.startswith("msgstr"))
            entry = {}
    return {text: forms for text, forms in texts.items() if text and all(forms)}

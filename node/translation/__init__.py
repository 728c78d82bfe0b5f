"""Sentences and words of the dashboard in the language of its user, from GNU gettext catalogs (``LANGUAGE.po``).

The source is English: a text without a translation is shown in English. A context without a language, such as a
command, the log or the audit trail, speaks English. ``tests/support/catalogs.py`` extracts the texts and completes the
catalogs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from io import BytesIO
from typing import Literal

InterfaceLanguage = Literal["en", "de", "zh"]
LANGUAGES: dict[InterfaceLanguage, tuple[str, str]] = {
    "en": ("en", "English"),
    "de": ("de", "Deutsch"),
    "zh": ("zh-Hans", "中文"),
}
"""Tag (BCP 47) of each language, and its name in itself."""
_language: ContextVar[InterfaceLanguage] = ContextVar("language", default="en")


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


def gettext(text: str, /, **values: object) -> str:
    """Return the translation of a text, with its values in place of their names in braces."""
    translation = _catalog(_language.get()).gettext(text) if text else ""  # "" is the header of a catalog
    return translation.format(**values) if values else translation


def ngettext(singular: str, plural: str, number: int, /, **values: object) -> str:
    """Return the translation for a number, which is ``{number}`` in the texts, with other values as ``gettext``."""
    return plural_form(singular, plural, number).format(number=number, **values)


def plural_form(singular: str, plural: str, number: int) -> str:
    """Return the translation for a number without filling in anything."""
    return _catalog(_language.get()).ngettext(singular, plural, number)


def marked(text: str) -> str:
    """Return a text of a table as it is; the mark has it extracted, ``gettext`` translates it when it is shown."""
    return text


def decimal(text: str) -> str:
    """Return a number with the decimal symbol of the language."""
    return text.replace(".", ",") if _language.get() == "de" else text


@cache
def _catalog(language: InterfaceLanguage) -> NullTranslations:
    if language == "en":
        return NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = BytesIO()
    write_mo(compiled, read_po(BytesIO(files(__package__).joinpath(f"{language}.po").read_bytes()), locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)

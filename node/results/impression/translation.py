"""Words and numbers of one language, from its catalog (``catalogs/*.po``, GNU gettext) and the CLDR (Babel).

A term that a catalog does not have, such as a code of a third-party pipeline, stays in English.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import get_args

from babel.numbers import get_decimal_symbol

from node.config import Language
from node.translation import read_catalog
from node.wording import rounded, unit_text

LANGUAGES: dict[str, str] = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "zh": "Chinese",
    "ja": "Japanese",
}
"""Meaning of each code (RFC 5646, CID 5000)."""


class Translation:
    """Translates phrases and writes numbers as the language does."""

    def __init__(self, language: Language) -> None:
        if language not in get_args(Language):
            raise ValueError(f"language {language!r}: use one of {', '.join(get_args(Language))}")
        self.language = language
        self._phrases = _phrases(language)
        self._decimal_symbol = get_decimal_symbol(language)

    def has(self, phrase: str) -> bool:
        """Whether the catalog has a phrase."""
        return phrase in self._phrases

    def of(self, phrase: str, /, **values: str) -> str:
        """Translate a phrase and fill in its values, which are translated already."""
        return self._phrases.get(phrase, phrase).format(**values) if values else self._phrases.get(phrase, phrase)

    def term(self, meaning: str) -> str:
        """Translate the meaning of a code, as it is written within a sentence."""
        if self.language == "en" and not self.has(meaning) and meaning[1:2].islower():
            return meaning[:1].lower() + meaning[1:]
        return self.of(meaning)

    def quantity(self, number: str, unit: str) -> str:
        """Return a number of a report with its unit (UCUM), rounded as everywhere: ``"1,1 ml"``."""
        bound, text, code = rounded(float(number), unit)
        shown = self.number(text)
        if code == "d":
            written = self.of("{number} day" if text == "1" else "{number} days", number=shown)
        elif code == "%":
            written = self.of("{number} %", number=shown)
        else:
            written = f"{shown} {unit_text(code)}".strip()
        return self.of(f"{bound} {{quantity}}", quantity=written) if bound else written

    def number(self, text: str) -> str:
        """Return the digits of a number with the decimal symbol of the language."""
        return text.replace(".", self._decimal_symbol)


@cache
def translation(language: Language) -> Translation:
    """Return the translation of a language. Raises ``ValueError`` for an unknown one."""
    return Translation(language)


@cache
def _phrases(language: str) -> dict[str, str]:
    catalog = read_catalog(Path(__file__).with_name("catalogs") / f"{language}.po")
    return {phrase: forms[0] for phrase, forms in catalog.items()}

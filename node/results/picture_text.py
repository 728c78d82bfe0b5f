"""Letters of captions in pictures: their language and typeface, and how lines are wrapped."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import Any

from PIL import ImageFont

from node.config import Language
from node.results.identity import plain
from node.translation import InterfaceLanguage, current_language
from node.translation.cells import wrapped

_FOLDER = Path("/usr/share/fonts")
_CHINESE = (
    "opentype/noto/NotoSansCJK-Regular.ttc",
    "opentype/noto-cjk/NotoSansCJK-Regular.ttc",
    "google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "truetype/wqy/wqy-microhei.ttc",
    "truetype/droid/DroidSansFallbackFull.ttf",
)
"""Typefaces of Debian and Red Hat packages with the letters of Chinese."""
_COLUMNS, _COLUMNS_OF_OTHERS = 36, 34
"""Widest line, in Latin letters: the typeface of other languages is wider."""
_LATIN = 0x250
"""Code points below are in every typeface but Pillow's own."""


def page_language(languages: Collection[Language]) -> InterfaceLanguage:
    """Return the language of a page for destinations with these languages; English when they have several."""
    spoken: tuple[InterfaceLanguage, ...] = ("de", "zh")
    return next((language for language in spoken if set(languages) == {language}), "en")


def caption_language(languages: Collection[Language]) -> InterfaceLanguage:
    """Return the language of captions: that of the page, where a typeface with its letters is installed."""
    language = page_language(languages)
    return language if language == "en" or _file_of(language) is not None else "en"


def caption(text: str) -> str:
    """Return a text in letters that ``typeface`` has."""
    if current_language() == "en":
        return plain(text, 1024)
    shown = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter if _is_drawn(letter) else plain(letter) for letter in shown)


def caption_lines(text: str) -> list[str]:
    """Return the lines of a caption; one without letters for no text."""
    return (wrap(text, _COLUMNS) if current_language() == "en" else wrapped(text, _COLUMNS_OF_OTHERS)) or [""]


def typeface(size: int) -> Any:
    """Return the typeface of the language that is spoken; of English Pillow's own, which has Latin letters alone."""
    file = _file_of(current_language())
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, round(0.93 * size))


def _is_drawn(letter: str) -> bool:
    wide = unicodedata.east_asian_width(letter) in "WF"
    return letter.isprintable() and (ord(letter) < _LATIN or (wide and current_language() == "zh"))


@cache
def _file_of(language: InterfaceLanguage) -> Path | None:
    if language == "zh":
        return next(filter(Path.is_file, (_FOLDER / name for name in _CHINESE)), None)
    spec = find_spec("matplotlib") if language != "en" else None  # brings the face; nothing of it is imported
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"

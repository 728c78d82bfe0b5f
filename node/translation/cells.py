"""Text in the cells of a terminal, of which a Chinese character takes two (Unicode, UAX 11)."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

_WIDE = "\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60"
_OPENING, _CLOSING = "（「『《【", "，。、；：！？）」』》】"  # noqa: RUF001 - punctuation of Chinese
_PIECE = re.compile(rf"\s+|[{_OPENING}]*(?:[^\s{_WIDE}]+|[^\s{_OPENING}]|$)[{_CLOSING}]*|.")
"""What no line may end in: a word, or a wide character, with the punctuation that belongs to it."""


def cells(text: str) -> int:
    """Return how many cells a text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def padded(text: str, width: int) -> str:
    """Return a text with spaces up to ``width`` cells."""
    return text + " " * (width - cells(text))


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a paragraph, of up to ``width`` cells unless a single word is longer."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if cells(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]

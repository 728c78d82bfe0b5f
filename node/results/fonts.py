"""Fonts of PDF pages: which typeface has which letters.

Latin, Greek, Cyrillic and the like are embedded, so that no viewer has to have them. East Asian letters are named by
the standard faces of PDF viewers (ISO 32000-1, 9.7.5) and not embedded. Scripts that are written from right to left,
or whose letters change with their neighbours, are not set at all: wrong order is worse than none.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

from node.errors import EncodeError
from node.translation import current_language

FACE = "DejaVuSans"
_EAST_ASIAN = (("HeiseiKakuGo-W5", "euc_jp"), ("HYGothic-Medium", "euc_kr"), ("STSong-Light", "gbk"))
"""Faces with the encoding whose letters each has; an ideograph that several have is taken from the first, or from
the last one on a page in Chinese."""
_MISSING = ""


def composed(text: str) -> str:
    """Letters and their accents in one (NFC), one space for any white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def can_show(text: str) -> bool:
    """Whether a page can show every letter of composed ``text``."""
    return _MISSING not in _faces(text)


def embeds(text: str) -> bool:
    """Whether every letter of ``text`` is in the typeface that the page brings."""
    return set(_faces(composed(text))) <= {FACE}


def marked_up(text: str) -> str:
    """``text`` as reportlab's paragraphs take it; each letter that cannot be shown is a question mark."""
    shown = composed(text)
    runs = groupby(zip(_faces(shown), shown, strict=True), key=lambda pair: pair[0])
    return "".join(_run(face, "".join(letter for _, letter in pairs)) for face, pairs in runs)


def _run(face: str, letters: str) -> str:
    if face == _MISSING:
        return "?" * len(letters)
    return escape(letters) if face == FACE else f'<font name="{face}">{escape(letters)}</font>'


def _faces(text: str) -> list[str]:
    """The face of each letter; one face for all East Asian letters of a text, where one has them."""
    glyphs = register()
    other = "".join(letter for letter in text if ord(letter) not in glyphs)
    faces = _EAST_ASIAN[::-1] if current_language() == "zh" else _EAST_ASIAN
    east_asian = next(((face, name) for face, name in faces if _encodes(other, name)), _EAST_ASIAN[-1])
    return [_face(letter, glyphs, *east_asian) for letter in text]


def _face(letter: str, glyphs: frozenset[int], east_asian: str, encoding: str) -> str:
    if ord(letter) in glyphs:
        return FACE
    return east_asian if _encodes(letter, encoding) else _MISSING


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@cache
def register() -> frozenset[int]:
    """Register the typefaces with reportlab; return the code points of the embedded one."""
    spec = find_spec("matplotlib")  # brings the face; nothing of it is imported
    if spec is None or spec.origin is None:
        raise EncodeError("the typeface DejaVu Sans is missing: install matplotlib, which brings it", ["pdf"])
    pdfmetrics.registerFont(TTFont(FACE, Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))
    for face, _ in _EAST_ASIAN:
        pdfmetrics.registerFont(UnicodeCIDFont(face))
    points = pdfmetrics.getFont(FACE).face.charToGlyph
    return frozenset(p for p in points if unicodedata.bidirectional(chr(p)) not in ("R", "AL"))

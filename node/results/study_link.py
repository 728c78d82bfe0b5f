"""The link to the page of a study on the dashboard: text to click in a PDF, a QR code with text in a picture.

It has the Study Instance UID and nothing else of the study (``node.config.web.Web.study_link``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw
from reportlab.graphics.barcode.qrencoder import QRCode, QRErrorCorrectLevel
from reportlab.platypus import Paragraph

from node.results.pdf_file import pdf_text
from node.results.picture_text import caption, typeface
from node.results.rendering import BACKGROUND, FAINT, INK, draw_lines
from node.translation import gettext
from node.translation.cells import wrapped

_MODULE = 3
"""Side of a module of the QR code, in pixels."""
_QUIET = 4
"""Width of the white border around the code, in modules (ISO/IEC 18004, 5.3.8)."""
_MARGIN, _TEXT = 10, 12
"""Around code and text, and size of the letters, in pixels."""


def pdf_link(address: str, size: float) -> Paragraph:
    """Return a paragraph whose address can be clicked; ``size``: of its letters, in points."""
    return pdf_text(_title(), size, link=address)


def link_strip(address: str, width: int) -> Image.Image:
    """Return a picture of this width with the address of a study: as QR code, and in letters beside it."""
    code = _qr_code(address)
    left = code.width + 2 * _MARGIN
    font = typeface(_TEXT)
    title = wrapped(caption(_title()), int((width - left) / font.getlength("n")))
    lines = [(line, FAINT) for line in title] + [(line, INK) for line in _cut(address, width - left - _MARGIN, font)]
    text_height = round(1.4 * _TEXT) * len(lines)
    strip = Image.new("RGB", (width, max(code.height, text_height) + 2 * _MARGIN), BACKGROUND)
    strip.paste(code, (_MARGIN, _MARGIN))
    draw_lines(strip, (left, _MARGIN), lines, _TEXT)
    return strip


def _title() -> str:
    return gettext("This study on the dashboard of the AI node:")


def _qr_code(address: str) -> Image.Image:
    code = QRCode(None, QRErrorCorrectLevel.M)
    code.addData(address)
    code.make()
    modules = range(code.getModuleCount())
    side = _MODULE * (len(modules) + 2 * _QUIET)
    picture = Image.new("RGB", (side, side), FAINT)  # white would blind a reader in a dark room
    draw = ImageDraw.Draw(picture)
    for row in modules:
        for column in modules:
            if code.isDark(row, column):
                x, y = _MODULE * (column + _QUIET), _MODULE * (row + _QUIET)
                draw.rectangle((x, y, x + _MODULE - 1, y + _MODULE - 1), fill="black")
    return picture


def _cut(address: str, width: int, font: Any) -> Iterator[str]:
    """Yield an address in lines of up to ``width`` pixels."""
    line = ""
    for letter in address:
        if font.getlength(line + letter) > width:
            yield line
            line = ""
        line += letter
    yield line

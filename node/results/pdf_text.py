"""Text of PDF pages, in letters that the page can show."""

from __future__ import annotations

from typing import Any

from reportlab.lib import colors
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Paragraph

from node.results import fonts


def pdf_text(text: str, size: float, colour: Any = colors.black) -> Paragraph:
    """Return a paragraph; ``size``: of its letters, in points."""
    style = ParagraphStyle("text", fontName=fonts.FACE, fontSize=size, leading=1.25 * size, textColor=colour)
    return Paragraph(fonts.marked_up(text), style)

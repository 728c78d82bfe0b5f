"""PDF files, and their text in letters that a page can show."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Flowable, Paragraph
from reportlab.platypus.doctemplate import SimpleDocTemplate

from node.results import fonts

LINK = colors.HexColor("#0b57d0")
"""Colour of text that can be clicked."""


def pdf_text(text: str, size: float, colour: Any = colors.black, *, link: str = "") -> Paragraph:
    """Return a paragraph; ``size``: of its letters, in points; ``link``: an address behind it, which can be clicked."""
    style = ParagraphStyle("text", fontName=fonts.FACE, fontSize=size, leading=1.25 * size, textColor=colour)
    clicked = f' <a href={quoteattr(link)} color="{LINK.hexval()}">{escape(link)}</a>' if link else ""
    return Paragraph(f"{fonts.marked_up(text)}{clicked}", style)


def pdf_file(
    story: Sequence[Flowable],
    *,
    title: str,
    margin: float,
    pagesize: tuple[float, float] = A4,
) -> bytes:
    """Return a story as a PDF file; the same arguments give the same bytes. ``margin``, ``pagesize``: in points."""
    buffer = BytesIO()
    SimpleDocTemplate(
        buffer,
        pagesize=pagesize,
        leftMargin=margin,
        rightMargin=margin,
        topMargin=margin,
        bottomMargin=margin,
        title=title,
        invariant=1,
    ).build(list(story))
    return buffer.getvalue()

"""Text of peers, files and models in a form that can be logged, stored and shown: one printable line, bounded."""

from __future__ import annotations

from typing import Any
from unicodedata import category

LONGEST = 4096
"""Characters of a text that are kept."""


def escaped(text: str, limit: int = LONGEST) -> str:
    """Return ``text`` with backslash escapes for what could forge a line, steer a terminal or reorder a page.

    These are control characters, line and paragraph separators, format characters such as bidirectional overrides,
    private and unassigned characters and lone surrogates: what ``str.isprintable`` refuses, but for spaces of other
    widths. At most ``limit`` characters are kept, and the number of the others is added.
    """
    if text.isprintable() and len(text) <= limit:
        return text
    shown: list[str] = []
    room = limit
    for character in text[:limit]:
        part = character if character.isprintable() or category(character) == "Zs" else _escape(character)
        room -= len(part)
        if room < 0:
            break
        shown.append(part)
    more = len(text) - len(shown)
    return "".join(shown) + (f" ... ({more} characters more)" if more else "")


def escaped_values(value: Any) -> Any:
    """Return a JSON value with every text in it escaped."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {escaped(key) if isinstance(key, str) else key: escaped_values(entry) for key, entry in value.items()}
    return [escaped_values(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def escaped_lines(text: str, indent: str = "", *, most: int = 200) -> str:
    """Escape every line of a text whose line ends are our own, such as a traceback; keep the last ``most`` lines."""
    lines = text.rstrip("\n").split("\n")
    omitted = len(lines) - most
    if omitted > 0:
        lines = [f"... ({omitted} lines before)", *lines[omitted:]]
    return "\n".join(f"{indent}{escaped(line, 1024)}" for line in lines)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""Which rendered media type a client gets (PS3.18 8.7.4 to 8.7.8), by its Accept field. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from node.errors import InputError

_RANGE = re.compile(r"([a-z0-9.+-]+|\*)/([a-z0-9.+-]+|\*)")
_PARAMETER = re.compile(r'(?<![a-z])([a-z]+)=("[^"]*"|[^";,]*)')
"""It begins where a name does: tried within a long name too, a field of 30 KiB would take seconds."""
_QUALITY = re.compile(r"[01](\.[0-9]{0,3})?")
_ENTRY = re.compile(r'(?:[^,"]|"[^"]*")+')


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is sent."""

    media_type: str
    is_multipart: bool
    """Any number of pictures; else one."""


def chosen(accept: str, offered: Sequence[str], *, pictures: int, must_be_all: bool = False) -> Form | None:
    """Return what a client likes most of what is ``offered``, the first of equals; ``None``: nothing of it.

    ``pictures``: their number; of equal forms several are sent as multipart, one by itself. ``must_be_all``: one of
    several is not sent by itself. Raises ``InputError`` for an Accept field of another form.
    """
    best: tuple[float, Form] | None = None
    entries = [_entry(text) for text in _ENTRY.findall(accept.lower() or "*/*")]
    is_one = pictures == 1
    for is_multipart in (not is_one, is_one):
        if must_be_all and not is_one and not is_multipart:
            continue
        for media_type in offered:
            matching = [entry.matches(media_type, is_multipart=is_multipart) for entry in entries]
            rank, quality = max(matching, default=(0, 0.0))
            if rank and quality and (best is None or quality > best[0]):
                best = quality, Form(media_type=media_type, is_multipart=is_multipart)
    return None if best is None else best[1]


@dataclass(frozen=True)
class _Entry:
    media_type: str
    quality: float
    is_multipart: bool

    def matches(self, media_type: str, *, is_multipart: bool) -> tuple[int, float]:
        """How closely it names a media type, 0 where it does not, and the quality that it gives it."""
        if self.media_type == "*/*":
            return 1, self.quality
        if self.is_multipart != is_multipart:
            return 0, 0.0
        if self.media_type == media_type:
            return 3, self.quality
        return (2, self.quality) if self.media_type in ("image/*", "multipart/*") else (0, 0.0)


def _entry(text: str) -> _Entry:
    kind, _, rest = text.strip().partition(";")
    parameters = {name: value.strip('"') for name, value in _PARAMETER.findall(rest)}
    quality = parameters.get("q", "1").strip()
    if not _RANGE.fullmatch(kind.strip()) or not _QUALITY.fullmatch(quality):
        raise InputError("Accept is a list of media types")
    kind = kind.strip()
    is_multipart = kind in ("multipart/related", "multipart/*")
    inner = parameters.get("type", "image/*") if is_multipart else kind
    return _Entry("image/*" if inner == "*/*" and is_multipart else inner, min(float(quality), 1.0), is_multipart)

"""The query parameters of rendered resources and thumbnails (PS3.18 8.3.5). Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from node.dicomweb.rendering import Rendering, Viewport, Window
from node.errors import InputError

LARGEST_SIDE = 8192
"""Of a viewport."""
THUMBNAIL = 256
"""Longer side of a thumbnail in pixels unless the client states a viewport."""
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_ANNOTATIONS = ("patient", "technique")
_NUMBER = re.compile(r"[-+]?[0-9]{1,10}(\.[0-9]{0,10})?([eE][-+]?[0-9]{1,2})?")
Query = Mapping[str, str]
Value = TypeVar("Value")


def rendering_of(query: Query, media_type: str) -> Rendering:
    """Return what a query asks for. Raises ``InputError`` for a parameter of another form."""
    return Rendering(
        media_type=media_type,
        quality=_read(query, "quality", _quality, 90),
        viewport=_read(query, "viewport", _viewport, None),
        window=_read(query, "window", _window, None),
    )


def thumbnail_of(query: Query, media_type: str) -> Rendering:
    """Return the same of a thumbnail, for which a viewport counts only, without a region."""
    viewport = _read(query, "viewport", _viewport, None) or Viewport(width=THUMBNAIL, height=THUMBNAIL)
    return Rendering(media_type=media_type, viewport=Viewport(width=viewport.width, height=viewport.height))


def unsupported(query: Query) -> tuple[str, ...]:
    """Return the parameters that change nothing here. Raises ``InputError`` for an annotation that is none."""
    names = query.get("annotation")
    if names is not None and not all(name in _ANNOTATIONS for name in names.split(",")):
        raise InputError("annotation is a list of patient and technique")
    return tuple(name for name in ("annotation", "iccprofile") if name in query)


def _read(query: Query, name: str, read: Callable[[str], Value], absent: Value) -> Value:
    return read(query[name]) if name in query else absent


def _quality(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise InputError("quality is a number from 1 to 100")
    return int(text)


def _viewport(text: str) -> Viewport:
    form = "viewport is width,height or width,height,left,top,columns,rows"
    parts = text.split(",")
    if len(parts) not in (2, 6):
        raise InputError(form)
    size = [_number(part, form) for part in parts[:2]]
    if not all(1 <= side <= LARGEST_SIDE for side in size):
        raise InputError(f"a viewport has 1 to {LARGEST_SIDE} pixels in each direction")
    left, top, columns, rows = (_number(part, form) if part else None for part in parts[2:] or ("",) * 4)
    if (left or 0.0) < 0 or (top or 0.0) < 0 or columns == 0 or rows == 0:
        raise InputError("the region of a viewport begins in the image and has a size")
    return Viewport(
        width=int(size[0]), height=int(size[1]), left=left or 0.0, top=top or 0.0, columns=columns, rows=rows
    )


def _window(text: str) -> Window:
    form = f"window is centre,width,function, with one of {', '.join(_FUNCTIONS)}"
    parts = text.split(",")
    if len(parts) != 3 or parts[2] not in _FUNCTIONS:
        raise InputError(form)
    centre, width = (_number(part, form) for part in parts[:2])
    if width < 1 if parts[2] == "linear" else width <= 0:
        raise InputError("the width of a window is 1 or more, of the other functions more than 0")
    return Window(centre=centre, width=width, function=_FUNCTIONS[parts[2]])


def _number(text: str, form: str) -> float:
    if not _NUMBER.fullmatch(text.strip()) or not math.isfinite(number := float(text)):
        raise InputError(form)
    return number

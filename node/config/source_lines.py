"""Line numbers of values in a TOML file, which ``tomllib`` does not report."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(#.*)?$")
_PAIR = re.compile(r"\s*([^=#]+?)\s*=")

Place = tuple[int | str, ...]
"""Keys and indices from the whole file down to a value."""


def line_of(text: str, place: Place) -> int | None:
    """Return the line number (from 1) of the value at ``place``, or of the innermost table that contains it.

    Multi-line strings are not supported; the configuration has none.
    """
    arrays: dict[Place, int] = {}
    table: Place = ()
    line_number, depth = None, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = table = _entered(_keys(header[2]), arrays, new=header[1] == "[[")
        elif pair := _PAIR.match(line):
            here = (*table, *_keys(pair[1]))
        else:
            continue
        if len(here) > depth and place[: len(here)] == here:
            line_number, depth = number, len(here)
    return line_number


def _keys(dotted: str) -> Sequence[str]:
    """The keys of ``a."b c".d``; none when it is no key, such as a line of a long string."""
    try:
        table = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    keys = []
    while isinstance(table, dict):
        ((key, table),) = table.items()
        keys.append(key)
    return keys


def _entered(keys: Sequence[str], arrays: dict[Place, int], *, new: bool) -> Place:
    """The table of a header: each array of tables on the way is entered at its latest element, or at a new one."""
    place: Place = ()
    for number, key in enumerate(keys, 1):
        place = (*place, key)
        if new and number == len(keys):
            arrays[place] = arrays.get(place, -1) + 1
        if place in arrays:
            place = (*place, arrays[place])
    return place

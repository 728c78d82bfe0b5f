"""The form of UIDs, which become file and folder names."""

from __future__ import annotations

import re
from functools import lru_cache

_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)


def is_uid(value: str) -> bool:
    """Return whether ``value`` has the form of PS3.5 9.1: digits and single dots, at most 64 characters.

    Leading zeros of components are allowed: devices write them, and they are harmless in a path.
    """
    return len(value) <= 64 and _has_form(value)


@lru_cache(maxsize=1024)  # the UIDs of one image are checked repeatedly; long values never get here
def _has_form(value: str) -> bool:
    return _UID.fullmatch(value) is not None

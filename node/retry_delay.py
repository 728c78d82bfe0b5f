"""How long to wait before the next attempt: the delay doubles with each failure in a row, up to a limit."""

from __future__ import annotations

_DOUBLINGS = 60
"""More of them say nothing: the limit is reached long before, and a float ends."""


def retry_delay(failures: int, first_seconds: float, max_seconds: float) -> float:
    """Seconds to wait after so many ``failures`` in a row, from 1."""
    return float(min(first_seconds * 2.0 ** min(failures - 1, _DOUBLINGS), max_seconds))

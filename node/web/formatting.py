"""Formatting of times, sizes and durations for pages."""

from __future__ import annotations

from datetime import UTC, datetime

from babel.dates import format_skeleton

from node import wording
from node.operate.explain import clock
from node.translation import current_language, decimal

NOTHING = "\N{EN DASH}"


def time(seconds: float | None) -> str:
    """Local time of an ``*_at`` value; the date when it is not of today."""
    if seconds is None:
        return NOTHING
    at = datetime.fromtimestamp(seconds, UTC).astimezone()
    today = at.date() == datetime.now(UTC).astimezone().date()
    if today:
        return at.strftime("%H:%M:%S")
    return f"{format_skeleton('MMMd', at, locale=current_language())} {at:%H:%M}"


def day(seconds: float) -> str:
    """Local date of an ``*_at`` value."""
    at = datetime.fromtimestamp(seconds, UTC).astimezone()
    return str(format_skeleton("yMMMd", at, locale=current_language()))


def size(count: float) -> str:
    """Bytes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else decimal(f"{count:.1f} {unit}")
        count /= 1024
    return decimal(f"{count:.2f} TiB")


def duration(seconds: float | None) -> str:
    """Seconds, or a longer unit from two minutes on."""
    return NOTHING if seconds is None else wording.duration(seconds)


def short(uid: str) -> str:
    """The end of a UID, where UIDs differ."""
    return uid if len(uid) <= 20 else f"…{uid[-18:]}"


def millimetres(value: float) -> str:
    """A length."""
    return wording.quantity(value, "mm")


FILTERS = {
    "clock": clock,
    "day": day,
    "millimetres": millimetres,
    "time": time,
    "size": size,
    "duration": duration,
    "short": short,
}
"""For templates."""

"""System calls of Linux that Python has no function for.

Those that models may make are in ``node.isolation.allowed_system_calls``.
"""

from __future__ import annotations

import ctypes
import os

_LIBRARY = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """Call a function of the C library. Raises ``OSError`` when it fails."""
    result = int(getattr(_LIBRARY, name)(*map(_argument, arguments)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _argument(value: object) -> object:
    if isinstance(value, str):
        return os.fsencode(value)
    return ctypes.c_long(value) if isinstance(value, int) else value

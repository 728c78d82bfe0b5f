"""Replies of confined processes: one line of JSON, read with a bound. Nothing that comes from them is unpickled."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable
from functools import lru_cache
from types import GenericAlias
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from node.errors import PlatformError, error_of

LONGEST_REASON = 4000
"""Characters of an error; that of a library may hold a whole array."""
_RESULT, _ERROR = b"=", b"!"
_GOES_ON, _ENDS = b"+", b"-"
_ERRORS = TypeAdapter(tuple[str, str])


def result_line(function: Callable[..., Any], result: object, *, ends: bool) -> bytes:
    """Return the line with a result of ``function``; ``ends``: the process ends after it."""
    return _RESULT + (_ENDS if ends else _GOES_ON) + _returned(function).dump_json((result,)) + b"\n"


def error_line(code: str, reason: str, *, ends: bool) -> bytes:
    """Return the line with an error of a class of ``node.errors``."""
    return _ERROR + (_ENDS if ends else _GOES_ON) + json.dumps([code, reason[:LONGEST_REASON]]).encode() + b"\n"


def process_ends(line: bytes) -> bool:
    """Whether the process ends after this line."""
    return line[1:2] != _GOES_ON


def result_of(function: Callable[..., Any], line: bytes) -> Any:
    """Return the result in a line.

    Raises the ``NodeError`` that the line names, ``PlatformError`` for what is no reply.
    """
    kind, text = line[:1], line[2:]
    try:
        if kind == _RESULT:
            return _returned(function).validate_json(text)[0]
        code, reason = _ERRORS.validate_json(text)
    except ValidationError:
        raise PlatformError("the process sent no reply that can be read") from None
    raise error_of(code, reason[:LONGEST_REASON])


@lru_cache(maxsize=256)
def _returned(function: Callable[..., Any]) -> TypeAdapter[tuple[Any]]:
    """Return the converter of what ``function`` returns, by its annotation."""
    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
    returned: Any = GenericAlias(tuple, (get_type_hints(function)["return"],))
    return TypeAdapter(returned, config=config)


def send_line(descriptor: int, data: bytes) -> None:
    """Write all of ``data``."""
    while data:
        data = data[os.write(descriptor, data) :]


def receive_line(descriptor: int, longest: int, seconds: float, look: Callable[[], None]) -> bytes:
    """Wait for a line and call ``look``, which may raise, about every ``seconds``.

    Raises ``EOFError`` when the process is gone and ``ValueError`` when the line is longer than ``longest`` bytes.
    """
    received = bytearray()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while not received.endswith(b"\n"):
        look()
        if ready.poll(seconds * 1000):  # also when the process is gone
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise EOFError
            received += part
        if len(received) > longest:
            raise ValueError(f"sent a reply of more than {longest >> 20} MiB")
    return bytes(received)

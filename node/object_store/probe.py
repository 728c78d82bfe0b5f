"""What a store does of that which packs rely on, found out with an object that is deleted again."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from node.errors import AbsentFileError, PlatformError
from node.object_store.store import Objects

_FOLDER = "probes"
_CONTENT = bytes(range(256)) * 16


class Ability(StrEnum):
    """What is asked of a store."""

    WRITE = "write"
    CONDITION = "conditional write"
    RANGE = "read of ranges"
    LIST = "list"
    CLOCK = "clock"
    DELETE = "delete"


class Probe(NamedTuple):
    """One answer of a store."""

    ability: Ability
    works: bool
    found: str
    """What was seen; numbers and the message of the store."""


def probe(objects: Objects) -> list[Probe]:
    """Write, read and delete an object; return one answer for each ability, until the store fails to answer one."""
    name, probes = f"{_FOLDER}/{uuid.uuid4().hex}", list[Probe]()
    steps: dict[Ability, Callable[[], tuple[bool, str]]] = {
        Ability.WRITE: lambda: (_write(objects, name, _CONTENT), ""),
        Ability.CONDITION: lambda: (not _write(objects, name, b"second"), ""),
        Ability.RANGE: lambda: _ranges(objects, name),
        Ability.LIST: lambda: _is_listed(objects, name),
        Ability.CLOCK: lambda: _clock(objects, name),
        Ability.DELETE: lambda: _is_deleted(objects, name),
    }
    for ability, step in steps.items():
        try:
            probes.append(Probe(ability, *step()))
        except (AbsentFileError, PlatformError) as error:
            probes.append(Probe(ability, works=False, found=str(error)))
            if ability == Ability.WRITE:
                break
    return probes


CLOCK_SECONDS = 300.0
"""S3 refuses requests whose time is 15 minutes off."""


def _write(objects: Objects, name: str, content: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "probe"
        file.write_bytes(content)
        return objects.put_new(name, file)


def _ranges(objects: Objects, name: str) -> tuple[bool, str]:
    (part,) = objects.read(name, [(1000, 10)])
    return bytes(part) == _CONTENT[1000:1010], ""


def _is_listed(objects: Objects, name: str) -> tuple[bool, str]:
    return any(of.name == name for of in objects.names(_FOLDER)), ""


def _clock(objects: Objects, name: str) -> tuple[bool, str]:
    written_at = next(of.modified_at for of in objects.names(_FOLDER) if of.name == name)
    ahead = written_at - time.time()
    return abs(ahead) < CLOCK_SECONDS, f"{ahead:+.0f} s"


def _is_deleted(objects: Objects, name: str) -> tuple[bool, str]:
    objects.delete(name)
    return objects.size(name) is None, ""

"""Attributes and frames of the objects that the node holds, read in a confined process."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from node.confined import Bounds, ConfinedProcess
from node.dicomweb.readings import attributes_as_json, document_of, frames_of
from node.errors import InputError, NodeError, PlatformError
from node.ledger.held_objects import HeldObject
from node.spool import Spool

_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=120, wall_seconds=300.0, reply_mib=256)
_AT_ONCE = 50
"""Files of one call."""
_KEPT = 20_000
"""Objects whose chosen attributes stay in memory."""


class ObjectReader:
    """Reads objects; its process ends with this one."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._process = ConfinedProcess("DICOMweb reader", readable=spool.data_folders, bounds=_BOUNDS)
        self._chosen: OrderedDict[tuple[str, tuple[str, ...]], Mapping[str, Any]] = OrderedDict()

    def path(self, of: HeldObject) -> Path:
        """Return the file of an object, fetched from its machine if necessary. Raises ``PlatformError``."""
        return self._spool.readable(of.path)

    def chosen(self, objects: Sequence[HeldObject], keywords: tuple[str, ...]) -> list[Mapping[str, Any]]:
        """Return these attributes of each object as DICOM JSON; none of an object that cannot be read."""
        unknown = [instance for instance in objects if (instance.path, keywords) not in self._chosen]
        for instance, values in zip(unknown, self._read(unknown, keywords), strict=True):
            self._chosen[instance.path, keywords] = values
        attributes = [self._chosen[instance.path, keywords] for instance in objects]
        while len(self._chosen) > _KEPT:
            self._chosen.popitem(last=False)
        return attributes

    def metadata(self, objects: Sequence[HeldObject]) -> list[Mapping[str, Any]]:
        """Return all attributes of each object but pixel data, private ones and long binary values."""
        return self._read(objects, ())

    def frames(self, of: HeldObject, frames: Sequence[int], *, decoded: bool) -> list[bytes]:
        """Return frames (from 1). Raises ``NotFoundError``, ``InputError`` or ``PlatformError``."""
        return self._process.call(of.sop_instance_uid, frames_of, self.path(of), frames, decoded=decoded)

    def document(self, of: HeldObject) -> bytes:
        """Return the document of an encapsulated one. Raises ``InputError`` or ``PlatformError``."""
        return self._process.call(of.sop_instance_uid, document_of, self.path(of))

    def _read(self, objects: Sequence[HeldObject], keywords: tuple[str, ...]) -> list[Mapping[str, Any]]:
        attributes: list[Mapping[str, Any]] = []
        for start in range(0, len(objects), _AT_ONCE):
            attributes += self._read_some(objects[start : start + _AT_ONCE], keywords)
        return attributes

    def _read_some(self, objects: Sequence[HeldObject], keywords: tuple[str, ...]) -> list[Mapping[str, Any]]:
        try:
            paths = self._spool.all_readable([instance.path for instance in objects])
            texts = self._process.call(f"{len(paths)} headers", attributes_as_json, paths, keywords)
        except NodeError as error:
            if isinstance(error, InputError | PlatformError) and len(objects) > 1:  # one must not hide the others
                half = len(objects) // 2
                return self._read_some(objects[:half], keywords) + self._read_some(objects[half:], keywords)
            return [{} for _ in objects]
        return [json.loads(text) for text in texts]

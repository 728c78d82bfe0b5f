"""Small files of a model that is a folder or a zip file."""

from __future__ import annotations

import json
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from node.pipeline.model_content import member_names

_LONGEST = 16 << 20
"""Bytes of a file of metadata."""


class PackedModel:
    """A folder or zip file of a model; reads a file at a time and writes nothing."""

    def __init__(self, path: Path) -> None:
        """Raises ``WeightsError`` for a zip file that is beyond the limits of a model."""
        self._path = path
        if path.is_dir():
            names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
            self._names = sorted(names)
        else:
            self._names = sorted(name for name in member_names(path) if not name.endswith("/"))

    def find(self, ending: str) -> str:
        """Return the first name that ends with whole parts ``ending``; empty: none does."""
        return next((name for name in self._names if f"/{name}".endswith(f"/{ending}")), "")

    def matching(self, pattern: str) -> list[str]:
        """Return the names that match a pattern of shells, sorted."""
        return [name for name in self._names if fnmatchcase(f"/{name}", f"*/{pattern}")]

    def text(self, name: str) -> str:
        """Read a file. Raises ``ValueError`` when it is longer than metadata are."""
        if self._path.is_dir():
            with (self._path / name).open("rb") as file:
                data = file.read(_LONGEST + 1)
        else:
            with zipfile.ZipFile(self._path) as archive, archive.open(name) as member:
                data = member.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise ValueError(f"{name} is longer than {_LONGEST >> 20} MiB")
        return data.decode("utf-8", errors="replace")

    def table(self, name: str) -> dict[str, Any]:
        """Read a file of one JSON object; an empty one for anything else."""
        document = json.loads(self.text(name)) if name else {}
        return document if isinstance(document, dict) else {}

"""What a hostile model does to the models that are loaded next to it, and what one of them can see of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from node.pipeline import Findings, Unsuitable, codes

_MARK = "left-by-a-neighbour"
_CACHES = ("XDG_CACHE_HOME", "CUDA_CACHE_PATH")


def _nothing(*_: object) -> Findings:
    return Findings(looked_for=(codes.SCT.Nodule,))


def _patch_the_class() -> None:
    sys.modules["job_pipelines"].Scripted.run = _nothing  # type: ignore[attr-defined]


def _patch_a_library() -> None:
    """Falsify the replies and handovers of this process on their way out."""
    dumps = json.dumps

    def falsified(document: Any) -> str:
        if "outcome" in document:
            document |= {"outcome": "no findings"}
        elif "findings" in document:
            document["findings"] |= {"lesions": [], "looked_for": [list(codes.SCT.Nodule)]}
        return dumps(document)

    json.dumps = falsified  # type: ignore[assignment]


def _patch_the_node() -> None:
    sys.modules["node.inference.run_pipeline"].in_order = _nothing  # type: ignore[attr-defined]


def _leave_files() -> None:
    os.environ["AINODE_NEIGHBOUR"] = _MARK
    for folder in _places():
        with suppress(OSError):
            (folder / _MARK).write_text("x")


def _places() -> set[Path]:
    """Folders that processes of models know, and those above them."""
    known = (tempfile.gettempdir(), os.environ["HOME"], *(os.environ[name] for name in _CACHES if name in os.environ))
    return {folder for path in map(Path, known) for folder in (path, path.parent, path.parent.parent)}


def _look_around() -> None:
    seen = [f"${name}" for name, value in os.environ.items() if _MARK in value]
    for folder in _places():
        with suppress(OSError):
            seen += [str(path) for path in folder.rglob(_MARK)]
    raise Unsuitable(json.dumps(seen))


NEIGHBOURS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "patch class": lambda _: _patch_the_class(),
    "patch library": lambda _: _patch_a_library(),
    "patch node": lambda _: _patch_the_node(),
    "leave files": lambda _: _leave_files(),
    "look around": lambda _: _look_around(),
}

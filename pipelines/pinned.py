"""Pinned folder or zip file of a third-party model: read only if its digest matches."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from node.errors import WeightsError
from node.pipeline import content_digest
from node.pipeline.model_content import check_folder, unpack


def pinned_folder(path: Path | None, sha256: str, marker: str, keeper: Any) -> Path:
    """The first by name of ``pinned_folders``; raises as it does."""
    return pinned_folders(path, sha256, marker, keeper)[0]


def pinned_folders(path: Path | None, sha256: str, marker: str, keeper: Any) -> list[Path]:
    """The folders below ``path`` that hold ``marker``, a relative path; at least one.

    A zip file is unpacked to a temporary folder, which goes when ``keeper`` does. Raises ``WeightsError`` when the
    model is missing, altered, or of another kind, and when it has links or is beyond the limits of a model.
    """
    if path is None or not path.exists():
        fault = "[pipelines.NAME] weights is missing" if path is None else f"weights: {path} does not exist"
        raise WeightsError(f"{fault}; `ainode models add SOURCE` puts a folder or zip there and prints the table")
    if path.is_dir():
        check_folder(path, hard_links=True)
    digest = content_digest(path)
    if digest != sha256.lower():
        raise WeightsError(
            f"weights: {path} has SHA-256 {digest}, options say {sha256}; restore the model or pin the new one"
        )
    below = path if path.is_dir() else _unpacked(path, keeper)
    markers = sorted(file for file in below.rglob(marker.rpartition("/")[2]) if file.match(marker))
    if not markers:
        raise WeightsError(f"weights: {path} holds no {marker}; give the whole folder as its author packs it")
    return [file.parents[marker.count("/")] for file in markers]


def _unpacked(path: Path, keeper: Any) -> Path:
    folder = tempfile.mkdtemp(prefix="model-")
    remove = weakref.finalize(keeper, shutil.rmtree, folder, ignore_errors=True)
    try:
        unpack(path, Path(folder))
    except BaseException:
        remove()
        raise
    return Path(folder)

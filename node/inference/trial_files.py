"""Files of a trial: DICOM objects, and key images also as PNG."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from PIL import Image

from node.results.analysis import EncodedObject


def write_objects(objects: Collection[EncodedObject], folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Write DICOM files, and key images also as PNG; return both. The name of a file ends with its kind."""
    files, pictures = [], []
    for number, encoded in enumerate(objects, 1):
        path = folder / f"{number:04d}-{encoded.kind}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.data)
        files.append(path)
        if encoded.kind == "key images":
            pictures.append(path.with_suffix(".png"))
            Image.fromarray(encoded.dataset.pixel_array).save(pictures[-1])
    return tuple(files), tuple(pictures)


def kind_of(path: Path) -> str:
    """Return the kind of an object by the name of its file."""
    return path.stem.partition("-")[2]

"""What a model says of itself, read from its own files in a confined process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from node.adopt.bundle_metadata import bundle_metadata
from node.adopt.metadata import ModelMetadata
from node.adopt.model_file_metadata import onnx_metadata, torch_metadata
from node.adopt.nnunet_metadata import nnunet_metadata
from node.adopt.packed_model import PackedModel
from node.confined import Bounds, ConfinedProcess
from node.errors import InputError, NodeError
from node.peer_text import escaped

_LONGEST = 600
"""Characters of a text."""
_LONGEST_NAME = 64
_MOST_LABELS = 1000
_BASE_MIB = 4096
"""Programs and libraries, without the model."""


def metadata_of(path: Path, factory: str) -> ModelMetadata:
    """Return what the model at ``path`` says of itself; with what could not be read as ``fault``."""
    size = path.stat().st_size if path.is_file() else 0
    bounds = Bounds(memory_mib=_BASE_MIB + 4 * (size >> 20), cpu_seconds=120, wall_seconds=300.0)
    process = ConfinedProcess("reader of a model's metadata", readable=[path], bounds=bounds)
    try:
        return _printable(process.call(path.name, read_metadata, path, factory))
    except NodeError as error:
        return ModelMetadata(fault=escaped(str(error)))
    finally:
        process.close()


def read_metadata(path: Path, factory: str) -> ModelMetadata:
    """Read a model, in a confined process. Raises ``InputError`` when its metadata cannot be read."""
    try:
        if factory.startswith("pipelines.nnunet:"):
            return nnunet_metadata(PackedModel(path))
        if factory.startswith("pipelines.monai_bundle:"):
            return bundle_metadata(PackedModel(path))
        return onnx_metadata(path) if path.suffix == ".onnx" else torch_metadata(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"its metadata cannot be read ({type(error).__name__}: {error})") from None


def _printable(metadata: ModelMetadata) -> ModelMetadata:
    """Every text in one line of bounded length."""
    texts: dict[str, Any] = {
        n: escaped(value, _LONGEST) for n, value in vars(metadata).items() if isinstance(value, str)
    }
    labels = {number: escaped(name, _LONGEST_NAME) for number, name in [*metadata.labels.items()][:_MOST_LABELS]}
    lists: dict[str, Any] = {
        n: tuple(escaped(name, _LONGEST_NAME) for name in vars(metadata)[n][:_MOST_LABELS])
        for n in ("channels", "configurations", "chosen")
    }
    return replace(metadata, **texts, **lists, labels=labels)

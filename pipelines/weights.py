"""Weights on disk: safetensors with a pinned SHA-256 in a ``.sha256`` file beside them (``sha256sum -c`` reads it)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor, nn

from node.errors import WeightsError

PACKAGE = Path(__file__).parent
"""Where the packaged weights are."""


@dataclass(frozen=True)
class Weights:
    """Tensors by name (always float32 in memory) and the digest of the file they came from."""

    tensors: dict[str, Tensor]
    sha256: str


def load_weights(path: Path) -> Weights:
    """Read ``path``, refusing it unless its digest is the one pinned in ``path.sha256``; never unpickles.

    Raises ``WeightsError`` when either file is missing or the digests differ.
    """
    pin = path.with_suffix(".sha256")
    for needed in (path, pin):
        if not needed.is_file():
            raise WeightsError(f"weights: {needed} does not exist; {_remedy(path)}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    pinned = pin.read_text().split()[0]
    if digest != pinned:
        raise WeightsError(
            f"weights: {path} has SHA-256 {digest}, pinned is {pinned}; restore the file or pin the new one"
        )
    return Weights({k: v.float() if v.is_floating_point() else v for k, v in load(content).items()}, digest)


def _remedy(path: Path) -> str:
    if path.is_relative_to(PACKAGE):
        return "it belongs to the installed package: install ainode again, or name other weights in [pipelines.NAME]"
    return (
        f"put the weights at {path} and their digest at {path.with_suffix('.sha256')} "
        f"(sha256sum {path.name} > {path.with_suffix('.sha256').name}), or correct [pipelines.NAME] weights"
    )


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give ``network`` its ``tensors``, which come from ``path``. Raises ``WeightsError`` when they do not fit."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"weights: {path} are of another network ({error}); use those that the pipeline's own train.py writes"
        ) from error


def save_weights(tensors: dict[str, Tensor], path: Path) -> str:
    """Write ``tensors`` as safetensors, floats as float16, pin its digest beside it and return the digest."""
    half = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}
    content = save(half)
    digest = hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n")
    return digest

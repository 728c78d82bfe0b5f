"""Readers of third-party models as fuzzing targets: metadata and options.

Each raises only what is a finding, as in ``fuzz_images.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from bundles import write_bundle
from nnunet_models import write_results

from node.config import PipelineTable
from node.errors import NodeError
from node.inference.model_store import card
from node.inference.plugins import load_pipeline
from node.pipeline import content_digest

Reader = Callable[[bytes], None]


@contextmanager
def bundle(folder: Path) -> Iterator[Reader]:
    """``configs/metadata.json`` of a MONAI Bundle."""
    root = write_bundle(folder / "bundle")

    def read(data: bytes) -> None:
        (root / "configs" / "metadata.json").write_bytes(data)
        _load("pipelines.monai_bundle:create", root)

    yield read


@contextmanager
def nnunet(folder: Path) -> Iterator[Reader]:
    """``plans.json`` and ``dataset.json`` of nnU-Net, in one JSON list."""

    root = write_results(folder / "results", weights=[{"w": torch.zeros(1)}], labels={"background": 0, "liver": 1})

    def read(data: bytes) -> None:
        plans, _, dataset = data.partition(b"\n")
        (root / "plans.json").write_bytes(plans)
        (root / "dataset.json").write_bytes(dataset)
        _load("pipelines.nnunet:create", root)

    yield read


@contextmanager
def model_options(folder: Path) -> Iterator[Reader]:
    """Options of a model file, as JSON."""
    path = folder / "model.ts"
    path.write_bytes(b"no model")

    def read(data: bytes) -> None:
        with suppress(ValueError, RecursionError):
            options = json.loads(data)
            if isinstance(options, dict):
                _load("pipelines.model_file:create", path, options)

    yield read


def _load(factory: str, weights: Path, options: dict[str, Any] | None = None) -> None:
    table = PipelineTable(factory=factory, weights=weights, options=options or {"sha256": content_digest(weights)})
    with suppress(NodeError):
        card("model", table)
    with suppress(NodeError):
        pipeline = load_pipeline("model", table, "cpu")
        assert pipeline.algorithm.name is not None
        assert pipeline.needs is not None

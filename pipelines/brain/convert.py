"""Convert the networks of brainchop (TensorFlow.js) to ``weights.safetensors`` without changing a value.

``python -m pipelines.brain.convert FOLDER``, where FOLDER is ``public/models`` of https://github.com/neuroneural/brainchop
(commit 4c87885f was used). The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from pipelines.brain.pipeline import WEIGHTS

NETWORKS = {"tissue": "model5_gw_ae", "anatomy": "model30chan50cls"}
"""Prefix of the tensors -> folder."""


def read_network(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of ``model.json`` and its binary files under the names that ``MeshNet`` gives them.

    Kernels are stored ``[depth, height, width, in, out]``, and PyTorch wants ``[out, in, depth, height, width]``.
    """
    groups = json.loads((folder / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
    tensors: dict[str, Tensor] = {}
    for group in groups:
        content, at = b"".join((folder / name).read_bytes() for name in group["paths"]), 0
        for entry in group["weights"]:
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise ValueError(f"{folder}: {entry['name']} is {entry['dtype']}; only plain float32 is converted")
            values = np.frombuffer(content, "<f4", prod(entry["shape"]), at).reshape(entry["shape"])
            at += values.nbytes
            tensors[entry["name"]] = torch.from_numpy(values.copy())
        if at != len(content):
            raise ValueError(f"{folder}: {len(content)} bytes of weights, its model.json describes {at}")
    kernels = [name for name in tensors if name.endswith("/kernel")]
    converted: dict[str, Tensor] = {}
    for number, kernel in enumerate(kernels):
        layer = "scores" if number == len(kernels) - 1 else f"layers.{number}"
        converted[f"{layer}.weight"] = tensors[kernel].permute(4, 3, 0, 1, 2).contiguous()
        converted[f"{layer}.bias"] = tensors[kernel.replace("/kernel", "/bias")]
    return converted


def convert(folder: Path, path: Path) -> str:
    """Write all networks to ``path`` with the digest next to it; return the digest."""
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, place in NETWORKS.items()
        for name, tensor in read_network(folder / place).items()
    }
    content = save(tensors)
    digest = hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n")
    return digest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    print(convert(arguments.folder, arguments.out))

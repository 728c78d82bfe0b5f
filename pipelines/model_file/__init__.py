"""Adapter for third-party segmentation models: a TorchScript, ExportedProgram or ONNX file with options.

    [pipelines.spleen]
    factory = "pipelines.model_file:create"
    weights = "/var/lib/ainode/models/spleen.onnx"    # *.onnx, *.pt2 (ExportedProgram), others: TorchScript

    [pipelines.spleen.options]
    sha256 = "..."                                    # of the file; any other file is refused
    name = "Spleen"
    version = "0.5.3"
    modality = "CT"
    spacing_mm = [1.5, 1.5, 1.5]                      # slice, row, column
    window = [-57.0, 164.0]                           # becomes 0 to 1, clipped; left out: mean 0, standard deviation 1
    roi = [96, 96, 96]                                # what the model takes at once, in voxels
    segments = [{ channel = 1, label = "Spleen", category = ["123037004", "SCT", "Anatomical Structure"],
                  type = ["78961009", "SCT", "Spleen"] }]
    # crop = { to = ["organs:Liver"], margin_mm = 20 }    # the model sees the box around masks of another pipeline
    # looked_for = ["Tumour"]      # labels that are findings; without any outlined: *no findings*, else *measured*

The model takes float32 ``[1, 1, slice, row, column]`` and returns one map per channel, ``[1, channel, slice, row,
column]``. A TorchScript or ExportedProgram file is a program: take it only from whom you would take a
program. ONNX needs the extra ``pip install 'ainode[onnx]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline
from pipelines.model_file.options import read_options


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the model file ``weights`` as the module's docstring describes."""
    from pipelines.model_file.pipeline import ModelFilePipeline

    return ModelFilePipeline(weights=weights, device=device, options=read_options(options))

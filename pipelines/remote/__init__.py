"""Adapter for models on an inference server that speaks the Open Inference Protocol (KServe V2), such as Triton.

    [pipelines.lobes]
    factory = "remote:https://triton.hospital.example:8000/v2/models/lobes"

    [pipelines.lobes.options]
    name = "Lobes"
    version = "2.1"
    modality = "CT"
    input = "image"                     # tensor: FP32 [1, 1, slice, row, column]
    orientation = "HPL"
    window = [-1000.0, 400.0]           # becomes 0 to 1, clipped; left out: HU or signal as they are
    affine = ""                         # name of a second tensor, FP64 [4, 4]: indices to LPS mm
    mask = "labels"                     # tensor of integers on the same grid, or of channels: the strongest wins
    binary = true                       # binary tensor data extension (Triton), or raw contents over gRPC; false: JSON,
                                        # or values
    labels = { 1 = "lung_upper_lobe_left" }
    classes = [{ key = "probabilities.0", finding = ["87433001", "SCT", "Pulmonary emphysema"],
                 present_from = 0.5, absent_below = 0.3 }]
    inputs = []                         # companions, each as a channel of the input after the series, or masks of
                                        # another pipeline's result, such as "organs:Liver"
    # crop = { to = ["organs:Liver"], margin_mm = 20 }          # the server gets the box around these masks

    [pipelines.lobes.options.run]       # see node/outside/limits.py
    seconds = 120
    ca = "/etc/ainode/tls/triton-ca.pem"

``remote:grpcs://triton.hospital.example:8001/v2/models/lobes`` is the same over gRPC, with the extra
``pip install 'ainode[grpc]'``.

``key`` is the name of a tensor and the number of a value in it. The server decides which weights it runs: raise
``version`` when they change there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline
from node.pipeline.outside import Outside
from pipelines.options import read_options


def create(
    *, source: Any, outside: Outside | None, weights: Path | None, device: str, options: Mapping[str, Any]
) -> Pipeline:
    """Describe the model ``source`` (``node.config.ServedModel``) as the module's docstring says."""
    del device
    from pipelines.remote.pipeline import RemoteOptions, RemotePipeline

    if weights is not None:
        raise ValueError("weights: they are on the server; leave it out")
    if outside is None:
        raise ValueError("a server is called by the worker; name it in config.toml, not in a program")
    return RemotePipeline(
        url=source.url, by_grpc=source.by_grpc, outside=outside, options=read_options(RemoteOptions, options)
    )

"""What a model file says of itself: properties and shapes of ONNX, the extra file ``metadata.json`` of PyTorch.

The keys are those of the options of a model file (``modality``, ``spacing_mm``, ``roi``, ``window``), ``labels`` with a
name for each channel, ``name``, ``version``, ``license``, or the metadata of a MONAI Bundle.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from node.adopt.bundle_metadata import stated_metadata
from node.adopt.metadata import ModelMetadata
from node.adopt.packed_model import PackedModel

_EXTRA = "extra/metadata.json"


def torch_metadata(path: Path) -> ModelMetadata:
    """Read a TorchScript or ExportedProgram file without loading it: both are zip files."""
    kind = "ExportedProgram" if path.suffix == ".pt2" else "TorchScript"
    if not zipfile.is_zipfile(path):
        return ModelMetadata(kind=kind)
    model = PackedModel(path)
    return stated_metadata(model.table(model.find(_EXTRA)), kind=kind)


def onnx_metadata(path: Path) -> ModelMetadata:
    """Read an ONNX file with the runtime that also runs it; only the kind is known where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return ModelMetadata(kind="ONNX")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the runtime has classes of its own for every fault
        raise ValueError(f"ONNX Runtime: {error}") from None
    about = session.get_modelmeta()
    stated = {key: _value(text) for key, text in about.custom_metadata_map.items()}
    if isinstance(whole := stated.get("metadata"), dict):
        stated = {**whole, **stated}
    if about.description:
        stated = {"description": about.description, **stated}
    metadata = stated_metadata(stated, kind="ONNX")
    taken, given = session.get_inputs()[0].shape, session.get_outputs()[0].shape
    roi = taken[2:] if len(taken) == 5 and all(isinstance(n, int) for n in taken[2:]) else ()
    channels = taken[1] if len(taken) == 5 and isinstance(taken[1], int) else 1
    outputs = given[1] if len(given) == 5 and isinstance(given[1], int) else 0
    named = metadata.channels or (("image",) * channels if channels > 1 else ())
    return replace(metadata, roi=metadata.roi or tuple(roi), outputs=outputs, channels=named)


def _value(text: str) -> Any:
    """Properties of ONNX are texts; lists, tables and numbers are written as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text

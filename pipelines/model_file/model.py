"""Loading a TorchScript, ExportedProgram or ONNX file whose digest is pinned."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from node.errors import PlatformError, WeightsError

Model = Callable[[Tensor], Tensor]
_DIMENSIONS = 5
_ON_GPU = "CUDAExecutionProvider"
_ON_CPU = 'or set [devices] use = ["cpu"]'
_NOT_A_PROGRAM = (AssertionError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile)
"""What torch.export.load and torch.jit.load raise for a file that is damaged, older or of another kind; torch documents
no exception. AssertionError: the archive has a version of another length (torch 2.13)."""


def load_model(path: Path | None, sha256: str, device: str) -> Model:
    """The model on ``device``, read only when the file's digest is ``sha256``.

    Raises ``WeightsError`` when the file is missing, another one, or not readable as a model, and ``PlatformError``
    when ONNX Runtime is missing or cannot use ``device``.
    """
    if path is None or not path.is_file():
        fault = "[pipelines.NAME] weights is missing" if path is None else f"weights: {path} does not exist"
        raise WeightsError(f"{fault}; `ainode models add SOURCE` puts a model file in its place and prints the table")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256.lower():
        raise WeightsError(
            f"weights: {path} has SHA-256 {digest}, options say {sha256}; restore the file or pin the new one"
        )
    if path.suffix == ".onnx":
        return _onnx_model(path, content, device)
    try:
        if path.suffix == ".pt2":
            exported: Model = torch.export.load(io.BytesIO(content)).module().to(device)
            return exported
        scripted = torch.jit.load(io.BytesIO(content), map_location=device)
        scripted.eval()
    except _NOT_A_PROGRAM as error:
        raise WeightsError(f"weights: {path} is not a model this torch can read ({error}); export it again") from error
    loaded: Model = scripted
    return loaded


def _onnx_model(path: Path, content: bytes, device: str) -> Model:
    """An ONNX session as a function of tensors; a model with its tensors in files beside is refused."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as faults
    except ImportError as error:
        raise PlatformError(f"weights: {path} needs onnxruntime; pip install 'ainode[onnx]'") from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    onnx_errors = tuple(  # they have no common base
        kind for kind in vars(faults).values() if isinstance(kind, type) and issubclass(kind, Exception)
    )
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        if _ON_GPU not in onnxruntime.get_available_providers():
            raise PlatformError(
                f"weights: {path} cannot run on {device}: this onnxruntime has no {_ON_GPU}; "
                f"pip uninstall onnxruntime, pip install onnxruntime-gpu, {_ON_CPU}"
            )
        _, _, number = device.partition(":")
        providers.insert(0, (_ON_GPU, {"device_id": int(number or 0)}))
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=providers)
    except onnx_errors as error:
        raise WeightsError(
            f"weights: {path} is not a model this onnxruntime can read ({error}); export it again"
        ) from error
    if device.startswith("cuda") and session.get_providers()[0] != _ON_GPU:
        raise PlatformError(
            f"weights: {path} cannot run on {device}: onnxruntime {onnxruntime.__version__} did not start its "
            f"{_ON_GPU}; the log says why: install the CUDA and cuDNN versions that it needs, {_ON_CPU}"
        )
    session.disable_fallback()  # to the CPU, when the device fails during a run
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != _DIMENSIONS:
        takes = ", ".join(f"{value.name} {list(value.shape)}" for value in inputs)
        raise WeightsError(
            f"weights: {path} takes {takes or 'nothing'}; export it with one input [batch, channel, slice, row, column]"
        )
    name = inputs[0].name

    def model(x: Tensor) -> Tensor:
        try:
            answer = session.run(None, {name: x.cpu().numpy()})[0]
        except onnx_errors as error:
            raise RuntimeError(str(error)) from error  # as PyTorch raises what goes wrong, such as lack of memory
        return torch.from_numpy(answer).to(x.device)

    return model

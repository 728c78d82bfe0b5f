"""Adapter for somebody else's segmentation model: a TorchScript, ExportedProgram or ONNX file described by options.

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
    # looked_for = ["Tumour"]      # labels that are findings; without any outlined: *no findings*, else *measured*

The model takes float32 ``[1, 1, slice, row, column]`` and returns one map per channel, ``[1, channel, slice, row,
column]``. A TorchScript or ExportedProgram file is a program: take it only from whom you would take a
program. ONNX needs the extra ``pip install 'ainode[onnx]'``.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from node.errors import PlatformError, WeightsError
from node.pipeline import Algorithm, Code, Findings, Needs, Pipeline, Segment, Series, Unsuitable
from pipelines.device import Portions, brought
from pipelines.options import check_orientation, library, parameters_of
from pipelines.structures import check_looked_for, findings_of

ADAPTER = "model_file 2"
"""Raised when the same options and weights give another result than before."""
OVERLAP = 0.25
"""Fraction by which neighbouring windows overlap."""

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One segment that the model draws."""

    channel: int
    label: str
    category: Code
    type: Code


@dataclass(frozen=True, kw_only=True)
class Options:
    """The table ``[pipelines.NAME.options]``."""

    sha256: str
    name: str
    version: str
    modality: str
    spacing_mm: tuple[float, float, float]
    """Of the model's grid: slice, row, column."""
    roi: tuple[int, int, int]
    segments: tuple[Structure, ...]
    window: tuple[float, float] | None = None
    """Input values that become 0 and 1; ``None``: standardised over the volume."""
    orientation: str = "HPL"
    looked_for: tuple[str, ...] = ()
    """Labels of ``segments`` that are findings: without an outline of theirs the outcome is *no findings*."""
    activation: str = "softmax"
    """``softmax``: each voxel belongs to its strongest channel, 0 is background. ``sigmoid``: to each channel whose
    logit is above 0, segments may overlap."""

    def __post_init__(self) -> None:
        if self.activation not in {"softmax", "sigmoid"}:
            raise ValueError(f'activation is {self.activation!r}; use "softmax" or "sigmoid"')
        if not all(mm > 0 for mm in self.spacing_mm):
            raise ValueError(f"spacing_mm is {list(self.spacing_mm)}; use three positive numbers in mm")
        if not all(n > 0 for n in self.roi):
            raise ValueError(f"roi is {list(self.roi)}; use three positive numbers of voxels")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"window is {list(self.window)}; give the lower value first")
        check_orientation(self.orientation)
        if not self.segments:
            raise ValueError("segments is empty; describe at least one channel of the model")
        labels = [structure.label for structure in self.segments]
        if len(set(labels)) != len(labels):
            raise ValueError(f"segments have the labels {', '.join(labels)}; give each its own")
        check_looked_for(self.looked_for, labels)


def _numbers(name: str, value: Any, count: int) -> tuple[Any, ...]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != count
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    ):
        raise ValueError(f"option {name} is {value!r}; give a list of {count} numbers")
    return tuple(value)


def _code(name: str, value: Any) -> Code:
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(v, str) and v for v in value):
        raise ValueError(
            f'option {name} is {value!r}; give [value, scheme, meaning], such as ["78961009", "SCT", "Spleen"]'
        )
    return Code(*value)


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(label, str) for label in value):
        raise ValueError(f"option looked_for is {value!r}; give a list of labels")
    return tuple(value)


def _structure(number: int, table: Any) -> Structure:
    name = f"segments[{number}]"
    known = [f.name for f in fields(Structure)]
    if not isinstance(table, Mapping) or sorted(table) != sorted(known):
        raise ValueError(f"option {name} is {table!r}; give a table with {', '.join(known)}")
    channel = table["channel"]
    if not isinstance(channel, int) or isinstance(channel, bool) or channel < 0:
        raise ValueError(f"option {name}.channel is {channel!r}; give the channel's number, 0 or more")
    return Structure(
        channel=channel,
        label=str(table["label"]),
        category=_code(f"{name}.category", table["category"]),
        type=_code(f"{name}.type", table["type"]),
    )


def read_options(options: Mapping[str, Any]) -> Options:
    """``options`` as ``Options``; ``ValueError`` names the option, its value and the remedy."""
    known = {f.name: f for f in fields(Options)}
    for name in options:
        if name not in known:
            raise ValueError(f"option {name} = {options[name]!r} is unknown; use one of {', '.join(known)}")
    for name, field in known.items():
        if field.default is MISSING and name not in options:
            raise ValueError(f"option {name} is missing; see pipelines/model_file.py for an example")
    read = dict(options)
    for name in ("sha256", "name", "version", "modality", "orientation", "activation"):
        if name in read and not (isinstance(read[name], str) and read[name]):
            raise ValueError(f"option {name} is {read[name]!r}; give a text")
    for name, count in (("spacing_mm", 3), ("roi", 3), ("window", 2)):
        if read.get(name) is not None:
            read[name] = _numbers(name, read[name], count)
    if not isinstance(read["segments"], list | tuple):
        raise ValueError(f"option segments is {read['segments']!r}; give a list of tables")  # noqa: TRY004
    read["segments"] = tuple(_structure(i, t) for i, t in enumerate(read["segments"]))
    read["looked_for"] = _labels(read.get("looked_for", ()))
    return Options(**read)


def load_model(path: Path | None, sha256: str, device: str) -> Model:
    """The model on ``device``, read only when the file's digest is ``sha256``.

    Raises ``WeightsError`` when the file is missing, another one, or not readable as a model.
    """
    if path is None or not path.is_file():
        raise WeightsError(f"weights: {path} does not exist; set [pipelines.NAME] weights to the model file")
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
    except (RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"weights: {path} is not a model this torch can read ({error}); export it anew") from error
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
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        _, _, number = device.partition(":")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=providers)
    except (
        faults.Fail,
        faults.InvalidArgument,
        faults.InvalidGraph,
        faults.InvalidProtobuf,
        faults.NotImplemented,
        faults.RuntimeException,
    ) as error:  # they have no common base
        raise WeightsError(
            f"weights: {path} is not a model this onnxruntime can read ({error}); export it anew"
        ) from error
    (name,) = [value.name for value in session.get_inputs()]

    def model(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.cpu().numpy()})[0]).to(x.device)

    return model


class ModelFilePipeline:
    """The loaded model with its description."""

    def __init__(self, *, weights: Path | None, device: str, options: Options) -> None:
        self.options = options
        self._weights = weights
        self._loaded = {device: load_model(weights, options.sha256, device)}
        self._portions = Portions(device, (1,))  # a model that was traced or exported takes one window at a time

    @property
    def algorithm(self) -> Algorithm:
        """Identity as configured, digest of the model file."""
        settings = parameters_of(asdict(self.options))
        runs_on = library("onnxruntime" if self._weights and self._weights.suffix == ".onnx" else "torch")
        return Algorithm(
            name=self.options.name,
            version=self.options.version,
            weights_sha256=self.options.sha256.lower(),
            parameters=settings | {"adapter": ADAPTER, "library": runs_on, "device": self._portions.device},
        )

    @property
    def needs(self) -> Needs:
        """The configured modality on a regular grid."""
        return Needs(modalities=frozenset({self.options.modality}), min_slices=2)

    def run(self, series: Series) -> Findings:
        volume = series.volume(self.options.orientation)
        spacing = tuple(float(mm) for mm in volume.spacing)
        labels = self._portions.run(lambda _, device: self._segment(volume.array, spacing, device))
        segments = {
            s.label: Segment(label=s.label, mask=volume.with_array(mask), category=s.category, type=s.type)
            for s, mask in zip(self.options.segments, labels, strict=True)
        }
        return findings_of(segments, self.options.looked_for)

    def _segment(self, array: NDArray[np.float32], spacing: tuple[float, ...], device: str) -> list[NDArray[np.bool_]]:
        """One mask per configured segment on the grid of ``array``; both grids cover the same box."""
        if device not in self._loaded:  # the other one's memory did not suffice
            self._loaded = {device: load_model(self._weights, self.options.sha256, device)}
        size = [
            max(round(n * mm / to), 1) for n, mm, to in zip(array.shape, spacing, self.options.spacing_mm, strict=True)
        ]
        with torch.inference_mode():
            x = brought(torch.from_numpy(array)[None, None], device)
            x = self._normalised(interpolate(x, size=size, mode="trilinear", align_corners=False))
            logits: Any = sliding_window_inference(
                x, self.options.roi, 1, self._loaded[device], overlap=OVERLAP, mode="gaussian", padding_mode="replicate"
            )
            wanted = max(s.channel for s in self.options.segments)
            if not isinstance(logits, Tensor) or logits.ndim != 5 or logits.shape[1] <= wanted:
                shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ValueError(
                    f"model returns {shape}; segments want [1, more than {wanted}, slice, row, column]: correct channel"
                )
            if self.options.activation == "sigmoid":
                return [
                    self._back(logits[:, s.channel : s.channel + 1], array.shape) > 0 for s in self.options.segments
                ]
            # Channel by channel, for memory: at full resolution each costs as much as the series itself.
            strongest = self._back(logits[:, :1], array.shape)
            winner = np.zeros(array.shape, np.uint8)
            for channel in range(1, logits.shape[1]):
                values = self._back(logits[:, channel : channel + 1], array.shape)
                winner[values > strongest] = channel
                np.maximum(strongest, values, out=strongest)
        return [winner == s.channel for s in self.options.segments]

    def _normalised(self, x: Tensor) -> Tensor:
        if self.options.window:
            low, high = self.options.window
            return ((x - low) / (high - low)).clamp(0, 1)
        deviation = x.std()
        if float(deviation) == 0:
            raise Unsuitable("All voxels have the same value")
        return (x - x.mean()) / deviation

    @staticmethod
    def _back(channel: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
        back: NDArray[np.float32] = (
            interpolate(channel, size=shape, mode="trilinear", align_corners=False)[0, 0].float().cpu().numpy()
        )
        return back


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the model file ``weights`` as the module's docstring describes."""
    return ModelFilePipeline(weights=weights, device=device, options=read_options(options))

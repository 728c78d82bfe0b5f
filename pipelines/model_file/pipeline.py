"""Runs a model file on the voxels of a series."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from node.pipeline import Algorithm, Findings, Needs, Segment, Series, Unsuitable, sentence
from pipelines.channels import channels
from pipelines.device import Portions, to_device
from pipelines.model_file.model import load_model
from pipelines.model_file.options import Options
from pipelines.options import library, parameters_of
from pipelines.result_masks import with_crop
from pipelines.structures import findings_of

ADAPTER = "model_file 2"
"""Raised when the same options and weights give another result than before."""
Mask = tuple[NDArray[Any], int | None]
"""Array and value, as ``Segment`` has them."""
OVERLAP = 0.25
"""Fraction by which neighbouring windows overlap."""


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
        crop = self.options.crop
        settings = parameters_of(asdict(self.options) | {"crop": crop and crop.model_dump()})
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

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """See ``node.pipeline.Pipeline``."""
        return tuple(segment.label for segment in self.options.segments)

    def run(self, series: Series) -> Findings:
        self._portions.begin()
        (volume,) = channels(series, (), self.options.orientation, self.options.crop)
        spacing = tuple(float(mm) for mm in volume.spacing)
        masks = self._portions.run(lambda _, device: self._segment(volume.array, spacing, device))
        segments = {
            s.label: Segment(label=s.label, mask=volume.with_array(mask), value=value, category=s.category, type=s.type)
            for s, (mask, value) in zip(self.options.segments, masks, strict=True)
        }
        return with_crop(findings_of(segments, self.options.looked_for), self.options.crop)

    def _segment(self, array: NDArray[np.float32], spacing: tuple[float, ...], device: str) -> list[Mask]:
        """One mask per configured segment on the grid of ``array``; both grids cover the same box."""
        if device not in self._loaded:  # the other one's memory did not suffice
            self._loaded = {device: load_model(self._weights, self.options.sha256, device)}
        size = [
            max(round(n * mm / to), 1) for n, mm, to in zip(array.shape, spacing, self.options.spacing_mm, strict=True)
        ]
        with torch.inference_mode():
            x = to_device(torch.from_numpy(array)[None, None], device)
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
                    (self._back(logits[:, s.channel : s.channel + 1], array.shape) > 0, None)
                    for s in self.options.segments
                ]
            # Channel by channel, for memory: at full resolution each costs as much as the series itself.
            strongest = self._back(logits[:, :1], array.shape)
            winner = np.zeros(array.shape, np.uint8 if logits.shape[1] < 257 else np.uint16)
            for channel in range(1, logits.shape[1]):
                values = self._back(logits[:, channel : channel + 1], array.shape)
                winner[values > strongest] = channel
                np.maximum(strongest, values, out=strongest)
        return [(winner, s.channel) if s.channel else (winner == 0, None) for s in self.options.segments]

    def _normalised(self, x: Tensor) -> Tensor:
        if self.options.window:
            low, high = self.options.window
            return ((x - low) / (high - low)).clamp(0, 1)
        deviation = x.std()
        if float(deviation) == 0:
            raise Unsuitable(sentence("All voxels have the same value"))
        return (x - x.mean()) / deviation

    @staticmethod
    def _back(channel: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
        back: NDArray[np.float32] = (
            interpolate(channel, size=shape, mode="trilinear", align_corners=False)[0, 0].float().cpu().numpy()
        )
        return back

"""Sends the voxels of a series to a model on a server, and reads what it returned."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from node.errors import PipelineError
from node.pipeline import Algorithm, Findings, Needs, Series, Volume
from node.pipeline.label_map import label_array
from node.pipeline.outside import Outside
from pipelines.channels import channels
from pipelines.container.options import ResultOptions
from pipelines.container.results import labelled, with_values
from pipelines.options import check_orientation, parameters_of
from pipelines.remote.grpc_messages import read_grpc_answer, write_grpc_request
from pipelines.remote.tensors import Tensors, read_answer, write_request
from pipelines.result_masks import SEPARATOR, with_crop
from pipelines.structures import check_looked_for

ADAPTER = "remote 1"
"""Raised when the same options and server give another result than before."""
_MOST_VALUES = 10_000
"""Of a tensor that is no mask."""


class RemoteOptions(ResultOptions):
    """The table ``[pipelines.NAME.options]``."""

    input: str
    orientation: str = "HPL"
    window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    affine: str = ""
    mask: str = ""
    binary: bool = True

    @field_validator("orientation")
    @classmethod
    def _axes(cls, value: str) -> str:
        return check_orientation(value)

    @model_validator(mode="after")
    def _fits(self) -> RemoteOptions:
        if bool(self.labels) != bool(self.mask):
            raise ValueError("mask and labels go together: the tensor, and what its values mean")
        if not (self.labels or self.measurements or self.classes):
            raise ValueError("labels, measurements and classes are empty; say what the model returns")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"window is {self.window}; give the lower value first")
        check_looked_for(self.looked_for, [*self.labels.values()])
        return self


class RemotePipeline:
    """The model on the server with its description."""

    def __init__(self, *, url: str, by_grpc: bool, outside: Outside, options: RemoteOptions) -> None:
        self.options = options
        self._url, self._outside = url, outside
        self._write, self._read = (write_grpc_request, read_grpc_answer) if by_grpc else (write_request, read_answer)

    @property
    def algorithm(self) -> Algorithm:
        """Identity as configured, with the address of the model."""
        settings = parameters_of(self.options.model_dump(exclude={"run"}))
        return Algorithm(
            name=self.options.name,
            version=self.options.version,
            parameters=settings | {"adapter": ADAPTER, "server": self._url},
        )

    @property
    def needs(self) -> Needs:
        """The configured modality on a regular grid."""
        return Needs(modalities=frozenset({self.options.modality}), min_slices=2)

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """See ``node.pipeline.Pipeline``."""
        return self.options.segment_labels

    def run(self, series: Series) -> Findings:
        """Raises ``PipelineError`` for an answer that does not follow the protocol or does not fit the images."""
        options = self.options
        names = ["this", *options.inputs]
        images = channels(series, names, options.orientation, options.crop)
        scaled = [self._scaled(name, image.array) for name, image in zip(names, images, strict=True)]
        inputs: Tensors = {options.input: np.stack(scaled)[None]}
        if options.affine:
            inputs[options.affine] = np.asarray(images[0].affine, np.float64)
        keys = {option.key.partition(".")[0] for option in (*options.measurements, *options.classes)}
        wanted = [*dict.fromkeys([*filter(None, [options.mask]), *sorted(keys)])]
        self._write(self._outside.inputs, inputs, wanted, binary=options.binary)
        self._outside.call()
        answer = self._read(self._outside.outputs)
        for name in wanted:
            if name not in answer:
                raise PipelineError(f"the server returned {', '.join(answer) or 'nothing'}, not {name!r}")
        findings = labelled(self._labels(answer[options.mask], images[0]), options) if options.mask else Findings()
        values = {name: _values(name, answer[name]) for name in keys}
        return with_crop(with_values(findings, options, values), options.crop)

    def _scaled(self, name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.options.window is None or SEPARATOR in name:
            return np.asarray(array, np.float32)
        low, high = self.options.window
        scaled: NDArray[np.float32] = np.clip((array - low) / (high - low), 0, 1).astype(np.float32)
        return scaled

    def _labels(self, mask: NDArray[Any], images: Volume) -> Volume:
        grid = images.array.shape
        if mask.shape[-3:] != grid or mask.size % images.array.size:
            raise PipelineError(f"mask {list(mask.shape)} is not on the grid of the images, {list(grid)}")
        by_channel = mask.reshape(-1, *grid)
        if len(by_channel) > 1:
            labels = by_channel.argmax(axis=0)
        elif mask.dtype.kind in "bui":
            labels = by_channel[0]
        else:
            raise PipelineError(f"mask is {mask.dtype} of one channel; return integers, or a channel for each class")
        return images.with_array(label_array(labels))


def _values(name: str, tensor: NDArray[Any]) -> dict[str, float]:
    if tensor.size > _MOST_VALUES or not np.isfinite(tensor.astype(np.float64)).all():
        raise PipelineError(f"output {name!r} has {tensor.size} values, or some that are no numbers")
    return {str(number): float(value) for number, value in enumerate(tensor.ravel())}

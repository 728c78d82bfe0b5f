"""The metadata of a MONAI Bundle, ``configs/metadata.json``, as far as the adapter uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from node.errors import WeightsError

Text = Annotated[str, BeforeValidator(str)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class InputFormat(_Part):
    """An image that the network takes."""

    type: Text = ""
    format: Text = ""
    modality: Text = "CT"
    num_channels: int = 1
    channel_def: dict[str, Text] | None = None
    spatial_shape: tuple[Any, ...] | None = None

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels, where they have any."""
        return [*(self.channel_def or {}).values()]


class _Output(_Part):
    type: Text = ""
    format: Text = ""
    spatial_shape: tuple[Any, ...] | None = None
    channel_def: dict[int, Text] | None = None
    label_def: dict[int, Text] | None = None


class _Outputs(_Part):
    pred: _Output = _Output()


class _NetworkFormat(_Part):
    inputs: dict[str, dict[str, Any]] = {}
    outputs: _Outputs = _Outputs()


class Metadata(_Part):
    """Who the bundle is, and what its network takes and gives."""

    name: Text = ""
    version: Text = ""
    task: Text = ""
    monai_version: Text = ""
    network_data_format: _NetworkFormat = _NetworkFormat()
    generator_data_format: _NetworkFormat = _NetworkFormat()
    """Of a network that makes images, where a bundle has several networks."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the file. Raises ``WeightsError``."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise _unusable(error) from None

    @property
    def classes(self) -> dict[int, str]:
        """Names of the classes of the answer."""
        output = self.network_data_format.outputs.pred
        return output.label_def or output.channel_def or {}

    @property
    def answer(self) -> _Output:
        """Format of the answer."""
        return self.network_data_format.outputs.pred

    @property
    def makes_images(self) -> str:
        """The input that shows that the bundle makes images from noise, as ``latent.type = noise``; else empty."""
        inputs = self.generator_data_format.inputs | self.network_data_format.inputs
        for name, about in inputs.items():
            for field, value in (("type", "noise"), ("format", "latent")):
                if about.get(field) == value:
                    return f"{name}.{field} = {value}"
        return ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the inputs."""
        return tuple(self.network_data_format.inputs)

    def input_format(self, key: str) -> InputFormat:
        """Return the format of the input ``key``, or else of the first one. Raises ``WeightsError``."""
        inputs = self.network_data_format.inputs
        try:
            return InputFormat.model_validate(next((inputs[name] for name in (key, *inputs) if name in inputs), {}))
        except ValidationError as error:
            raise _unusable(error) from None


def _unusable(error: ValidationError) -> WeightsError:
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, ("metadata.json", *fault["loc"])))
    return WeightsError(f"weights: {where}: {fault['msg']}; give the bundle as its author packs it")

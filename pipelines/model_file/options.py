"""Options of a model file: what the model takes and what its channels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from pydantic import ValidationError

from node.pipeline import Code
from pipelines.options import check_orientation
from pipelines.result_masks import Crop
from pipelines.structures import check_looked_for


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

    crop: Crop | None = None

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


def _crop(value: Any) -> Crop | None:
    try:
        return None if value is None else Crop.model_validate(value)
    except ValidationError as error:
        raise ValueError(f"option crop = {value!r}: {error.errors()[0]['msg']}") from None


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
            raise ValueError(f"option {name} is missing; see pipelines/model_file/__init__.py for an example")
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
    read["crop"] = _crop(read.get("crop"))
    return Options(**read)

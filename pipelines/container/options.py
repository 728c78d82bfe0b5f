"""Options of a container: what it gets, and what its results mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from node.pipeline import Code
from pipelines.options import AdapterOptions, check_orientation
from pipelines.result_masks import SEPARATOR
from pipelines.structures import check_looked_for, label_of

CodeList = Annotated[list[str], Field(min_length=3, max_length=3)]
"""Value, scheme and meaning."""
Number = Annotated[float, Field(strict=False)]


class ResultValue(BaseModel):
    """A value of ``result.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str
    """With dots between the levels: ``"volumes.spleen"``."""


class MeasuredValue(ResultValue):
    """A number that becomes a measurement of the study."""

    name: CodeList
    unit: str
    """UCUM."""


class ClassValue(ResultValue):
    """A probability that becomes an assertion."""

    finding: CodeList
    present_from: Number
    absent_below: Number


class ResultOptions(AdapterOptions):
    """What the results of a model that runs elsewhere mean."""

    name: str
    version: str
    modality: str
    labels: dict[str, str] = Field(default_factory=dict)
    grid: Literal["same", "any"] = "same"
    measurements: list[MeasuredValue] = Field(default_factory=list)
    classes: list[ClassValue] = Field(default_factory=list)
    run: dict[str, Any] = Field(default_factory=dict)
    """Read by the worker: ``node.outside.limits``."""

    @field_validator("labels")
    @classmethod
    def _values(cls, labels: dict[str, str]) -> dict[str, str]:
        if any(not value.isascii() or not value.isdigit() or not 0 < int(value) < 65536 for value in labels):
            raise ValueError("give values of the label map, 1 to 65535, with the names of their structures")
        if len(set(labels.values())) != len(labels):
            raise ValueError("give each value a name of its own")
        return labels

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """The names of ``labels`` as segmentations call them."""
        return tuple(map(label_of, self.labels.values()))

    @property
    def classes_of_labels(self) -> dict[int, str]:
        """Value -> name."""
        return {int(value): name for value, name in self.labels.items()}


class ContainerOptions(ResultOptions):
    """The table ``[pipelines.NAME.options]``."""

    contract: Literal["plain", "mercure", "map"] = "plain"
    input: Literal["nifti", "dicom"] = "nifti"
    orientation: str | None = None
    """Of ``image.nii``: in which directions slices, rows and columns grow; absent: as acquired."""
    settings: dict[str, Any] = Field(default_factory=dict)
    pictures: bool = False
    """Whether secondary captures are taken over; the node cannot check what they show."""

    @field_validator("orientation")
    @classmethod
    def _axes(cls, value: str | None) -> str | None:
        return None if value is None else check_orientation(value)

    @model_validator(mode="after")
    def _fits(self) -> ContainerOptions:
        if self.contract == "plain":
            if not (self.labels or self.measurements or self.classes):
                raise ValueError("labels, measurements and classes are empty; say what the container returns")
            check_looked_for(self.looked_for, [*self.labels.values()])
        if self.takes_dicom and (self.crop is not None or any(SEPARATOR in name for name in self.inputs)):
            raise ValueError('crop and masks of other pipelines need contract = "plain" and input = "nifti"')
        return self

    @property
    def takes_dicom(self) -> bool:
        """Whether the container gets the files of the series."""
        return self.contract != "plain" or self.input == "dicom"


def code(values: list[str]) -> Code:
    """The code of an option."""
    return Code(*values)

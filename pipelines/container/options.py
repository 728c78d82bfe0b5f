"""Options of a container: what it gets, and what its results mean."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from node.pipeline import Code
from pipelines.options import AdapterOptions, check_orientation
from pipelines.structures import check_looked_for, label_of

_NO_NAME = re.compile("[^A-Za-z0-9_-]")
"""In the name of a file: of a label of another pipeline."""
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
    masks: Literal["", "nifti", "dicom"] = ""
    """How the container gets masks of another pipeline: as NIfTI files or as that pipeline's DICOM SEG; empty: in the
    form in which it gets the images."""
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
        if self.takes_dicom and self.crop is not None:
            raise ValueError('crop needs contract = "plain" and input = "nifti": files of DICOM are given whole')
        if self.masks == "dicom" and not self.takes_dicom:
            raise ValueError('masks = "dicom" needs the DICOM files of the series beside it: set input = "dicom" too')
        files = [*map(file_of, ("image", *self.inputs))]
        for name, file in zip(self.inputs, files[1:], strict=True):
            if files.count(file) > 1:
                raise ValueError(f"inputs = {name!r} makes a second file {file}; rename the companion or the label")
        return self

    @property
    def takes_segmentations(self) -> bool:
        """Whether masks of another pipeline come as its DICOM SEG."""
        return self.takes_dicom and self.masks != "nifti"

    @property
    def takes_dicom(self) -> bool:
        """Whether the container gets the files of the series."""
        return self.contract != "plain" or self.input == "dicom"


def file_of(name: str) -> str:
    """The NIfTI file of one of ``inputs``."""
    return f"{_NO_NAME.sub('_', name)}.nii"


def code(values: list[str]) -> Code:
    """The code of an option."""
    return Code(*values)

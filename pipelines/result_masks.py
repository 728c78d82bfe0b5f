"""Masks of another pipeline's result as inputs of a model: as a channel, or to crop the images to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from node.errors import PipelineError
from node.pipeline import Findings, Series, Unsuitable, Volume, sentence

SEPARATOR = ":"
"""Between the name of the other pipeline and the label of its mask: ``"organs:Liver"``."""


def check_reference(text: str) -> str:
    """Return ``text`` when it names a pipeline and a label; else raise ``ValueError``."""
    if not all(text.partition(SEPARATOR)):
        raise ValueError(f'{text!r} names no mask; write "PIPELINE:LABEL", such as "organs:Liver"')
    return text


def mask_of(reference: str, series: Series, orientation: str | None) -> Volume:
    """The mask that ``PIPELINE:LABEL`` names, on the grid of the series.

    Raises ``Unsuitable`` when nothing was outlined, ``PipelineError`` when the configuration gives no such result.
    """
    mask = _outlined(reference, series, orientation)
    if mask is None:
        raise _nothing_outlined([reference])
    return mask


class Crop(BaseModel):
    """The option ``crop``: the model gets the box around masks of another pipeline's result."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    to: list[Annotated[str, AfterValidator(check_reference)]] = Field(min_length=1)
    margin_mm: Annotated[float, Field(ge=0)] = 20.0

    def box(self, series: Series, orientation: str | None) -> tuple[slice, slice, slice]:
        """Slices, rows and columns of ``Series.volume(orientation)``.

        Raises ``Unsuitable`` when nothing was outlined under all of the labels, ``PipelineError`` as ``mask_of`` does.
        """
        masks = [mask for reference in self.to if (mask := _outlined(reference, series, orientation)) is not None]
        inside = np.any([mask.array != 0 for mask in masks], axis=0) if masks else np.zeros((1, 1, 1), bool)
        if not inside.any():
            raise _nothing_outlined(self.to)
        margin = [int(np.ceil(self.margin_mm / mm)) for mm in masks[0].spacing]
        filled = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        first, rows, columns = (
            slice(max(int(places[0]) - more, 0), min(int(places[-1]) + 1 + more, size))
            for places, more, size in zip(filled, margin, inside.shape, strict=True)
        )
        return first, rows, columns


def with_crop(findings: Findings, crop: Crop | None) -> Findings:
    """Findings that say which part of the images was analysed."""
    if crop is None:
        return findings
    name = ", ".join(reference.partition(SEPARATOR)[2] for reference in crop.to)
    remark = sentence("Only the part of the images around {name} was analysed.", name=name)
    return replace(findings, remarks=(*findings.remarks, remark))


def _outlined(reference: str, series: Series, orientation: str | None) -> Volume | None:
    pipeline, _, label = reference.partition(SEPARATOR)
    result = series.result(pipeline)
    if result is None:
        raise PipelineError(f'{reference!r}: there is no result of {pipeline!r}; set after = "{pipeline}" in the table')
    return result.mask(label, orientation)


def _nothing_outlined(references: Sequence[str]) -> Unsuitable:
    labels = ", ".join(reference.partition(SEPARATOR)[2] for reference in references)
    return Unsuitable(sentence("The model needs {label}, which was not outlined", label=labels))

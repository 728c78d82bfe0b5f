"""Masks of other pipelines that the options of an adapter name: ``PIPELINE:LABEL`` in ``inputs`` and ``crop``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.config.outside import outside_factory
from node.config.pipelines import PipelineTable
from node.config.table import suggest

_ADAPTERS = frozenset({"pipelines.monai_bundle:create", "pipelines.nnunet:create", "pipelines.model_file:create"})
"""Besides those of ``outside_factory``. The options of any other factory mean what its author says."""
_SEPARATOR = ":"


@dataclass(frozen=True, kw_only=True)
class MaskReference:
    """One mask that a pipeline asks for."""

    field: str
    """Option that names it: ``"inputs"`` or ``"crop.to"``."""
    pipeline: str
    label: str

    @property
    def text(self) -> str:
        """As it is written in the option."""
        return f"{self.pipeline}{_SEPARATOR}{self.label}"


def mask_references(table: PipelineTable) -> tuple[MaskReference, ...]:
    """Return the masks that the options of a pipeline name; those of a wrong form are left to its adapter."""
    if table.factory not in _ADAPTERS and outside_factory(table.factory) is None:
        return ()
    crop = table.options.get("crop")
    options = {"inputs": table.options.get("inputs"), "crop.to": crop.get("to") if isinstance(crop, Mapping) else None}
    return tuple(
        MaskReference(field=field, pipeline=pipeline, label=label)
        for field, names in options.items()
        for pipeline, label in map(_parts, names if isinstance(names, list | tuple) else ())
        if pipeline and label
    )


def reference_fault(name: str, reference: MaskReference, pipelines: Mapping[str, PipelineTable]) -> str:
    """Return why pipeline ``name`` gets no such mask, with the remedy; empty: the other pipeline runs before it.

    The option ``after`` of all pipelines has to be valid.
    """
    reference_text = f"pipelines.{name}.options.{reference.field} names {reference.text!r}"
    other = reference.pipeline
    if other not in pipelines:
        return (
            f"{reference_text}, and there is no pipeline {other!r}{suggest(other, pipelines)}; correct it, or add "
            f'[pipelines.{other}] and after = "{other}"'
        )
    if other == name:
        return f"{reference_text}, a mask of its own result; name a pipeline that runs before it"
    if name in _before(other, pipelines):
        return f"{reference_text}, and {other!r} itself runs after {name!r}: a circle; remove one of them"
    before = _before(name, pipelines)
    if other in before:
        return ""
    first = name if set(before) <= set(_before(other, pipelines)) else before[-1]
    return f'{reference_text}, and {other!r} does not run before it; set after = "{other}" in [pipelines.{first}]'


def _parts(name: Any) -> tuple[str, str]:
    pipeline, _, label = name.partition(_SEPARATOR) if isinstance(name, str) else ("", "", "")
    return pipeline, label


def _before(name: str, pipelines: Mapping[str, PipelineTable]) -> list[str]:
    """The pipelines that run before one, the nearest first."""
    chain: list[str] = []
    while name in pipelines and (name := pipelines[name].after):
        chain.append(name)
    return chain

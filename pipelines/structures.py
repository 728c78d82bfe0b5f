"""Segments and findings from the classes of a model; ``node.pipeline.structure_names`` has their codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from node.pipeline import Code, Findings, Lesion, Segment, Volume
from node.pipeline.label_map import boxes_of
from node.pipeline.structure_names import ALTERED, PRIVATE_SCHEME, structure

__all__ = ["PRIVATE_SCHEME", "check_looked_for", "findings_of", "label_of", "segment_of", "structure"]

_PALETTE = ((255, 64, 64), (64, 160, 255), (80, 200, 80), (255, 176, 32), (190, 90, 255), (0, 200, 200))
_LABEL_LENGTH = 64


def check_looked_for(looked_for: Sequence[str], classes: Sequence[str]) -> None:
    """Raises ``ValueError`` when the option ``looked_for`` names a class that the model does not have."""
    for name in looked_for:
        if name not in classes:
            raise ValueError(f"option looked_for = {name!r}: the model has no such class; use {', '.join(classes)}")


def findings_of(outlined: Mapping[str, Segment], looked_for: Sequence[str]) -> Findings:
    """What the outlines of a model mean; ``outlined``: one segment for each of its classes, empty where it saw none.

    Outlines of the classes in ``looked_for``, and of those whose category is abnormal, are lesions; the others are
    structures. Only with ``looked_for`` can the outcome be *no findings*: without it a model that outlines no lesion
    has measured, and claims nothing.
    """
    boxes = boxes_of([*outlined.values()])
    seen = {name: segment for (name, segment), box in zip(outlined.items(), boxes, strict=True) if box is not None}
    lesions = {name: s for name, s in seen.items() if name in looked_for or s.category == ALTERED}
    others = [segment for name, segment in (seen or outlined).items() if name not in lesions]
    return Findings(
        lesions=tuple(Lesion(segment=segment, finding=segment.type) for segment in lesions.values()),
        segments=tuple(others),
        looked_for=tuple(dict.fromkeys(outlined[name].type for name in looked_for)),
    )


def label_of(name: str) -> str:
    """What segmentation and report call the class that the model calls ``name``."""
    return name.replace("_", " ")[:_LABEL_LENGTH]


def segment_of(
    mask: Volume, name: str, number: int, structures: Mapping[str, Sequence[str]], value: int | None = None
) -> Segment:
    """The segment of class ``number``, which the model calls ``name``; ``structures`` gives other codes by name.

    ``value``: of the class in ``mask`` where that is a label map; see ``Segment``.
    """
    category, kind = structure(name)
    return Segment(
        label=label_of(name),
        mask=mask if value is not None else mask.with_array(mask.array.astype(np.uint8)),
        value=value,
        category=category,
        type=Code(*structures[name]) if name in structures else kind,
        colour=_PALETTE[number % len(_PALETTE)],
    )

"""What the inferer of a bundle asks for besides the images: nothing, the classes to segment, or prompts of a reader."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from node.errors import WeightsError

_PROMPTABLE = {"point_coords", "point_labels", "class_vector"}
"""Parameters of an inferer that segments given classes (VISTA-3D); with no points it needs no reader."""


def asked_classes(
    inferer: Callable[..., Any], names: Mapping[int, str], wanted: Sequence[str], everything: Sequence[int], bundle: str
) -> tuple[int, ...]:
    """Numbers of the classes that ``inferer`` must be asked for; empty when it takes images and network alone.

    ``names``: of all classes. ``wanted``: those of the options, or else ``everything`` that the bundle itself asks for.
    Raises ``ValueError`` for an unknown class, ``WeightsError`` for an inferer that needs other inputs.
    """
    parameters = list(inspect.signature(inferer).parameters.values())[2:]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]
    promptable = set(needed) == _PROMPTABLE
    if needed and not promptable:
        raise WeightsError(
            f"bundle {bundle}: its inferer {type(inferer).__name__} also needs {', '.join(needed)}, as for clicks and "
            "other prompts, which no job has; choose a bundle that needs the images alone"
        )
    if wanted and not promptable:
        raise ValueError(f"option classes = {list(wanted)!r}: the model always gives all of its classes; remove it")
    numbers = {name: number for number, name in names.items()}
    for name in wanted:
        if name not in numbers:
            raise ValueError(
                f"option classes = {name!r}: the model has no such class; use names of outputs.pred.channel_def in "
                "metadata.json"
            )
    asked = tuple(numbers[name] for name in wanted) or tuple(everything)
    if promptable and not asked:
        raise ValueError("option classes is missing: the model segments the classes that it is asked for; name them")
    return asked if promptable else ()


def prompts(classes: Sequence[int], device: str | torch.device) -> dict[str, Any]:
    """Arguments that ask an inferer for ``classes`` without any click."""
    vector = torch.tensor(classes, device=device)[:, None]
    return {"point_coords": None, "point_labels": None, "class_vector": vector}

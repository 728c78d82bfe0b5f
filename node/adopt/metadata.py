"""What a model says of itself, as values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Statements of a model about itself; what is empty is not stated."""

    kind: str = ""
    """Packaging in words."""
    name: str = ""
    version: str = ""
    about: str = ""
    """What it is for."""
    authors: str = ""
    licence: str = ""
    data: str = ""
    """What it was trained on."""
    references: str = ""
    network: str = ""
    training: str = ""
    figures: str = ""
    """What its author measured."""
    grid: str = ""
    """Voxels that the network gets, in words."""
    modality: str = ""
    modality_is_guess: bool = False
    channels: tuple[str, ...] = ()
    """Names of the input images."""
    labels: dict[int, str] = field(default_factory=dict)
    """Names of what it outlines, by channel or value, without the background."""
    spacing_mm: tuple[float, ...] = ()
    """Slice, row, column."""
    roi: tuple[int, ...] = ()
    """Slices, rows and columns that the network takes at once."""
    window: tuple[float, ...] = ()
    """Values that become 0 and 1."""
    outputs: int = 0
    """Channels of the answer, where only their number is stated."""
    configurations: tuple[str, ...] = ()
    """Of nnU-Net: the trained ones of the folder."""
    chosen: tuple[str, ...] = ()
    """Those of them that are to run, averaged where there are several; empty: the model leaves the choice."""
    fault: str = ""
    """Why nothing could be read."""

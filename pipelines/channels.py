"""Input channels of a model: this series and its companions on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import affine_transform

from node.pipeline import Series, Unsuitable, Volume, sentence

THIS = "this"
"""In the option ``inputs``: the series that the rule matched."""


def check_inputs(inputs: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises ``ValueError`` unless ``inputs`` names an image for each of the model's channels ``wanted``."""
    if [name[:1].upper() for name in wanted] == ["R", "G", "B"]:
        raise ValueError(
            f"the model takes colour images ({', '.join(wanted)}), and a series of CT or MR has grey levels only; "
            "it cannot be run"
        )
    if len(wanted) != max(1, len(inputs)):
        raise ValueError(
            f"option inputs = {list(inputs)!r}: the model takes {len(wanted)} images ({', '.join(wanted)}); name for "
            f"each the companion of the rule, or {THIS!r} for the series itself, in this order"
        )


def channels(series: Series, inputs: Sequence[str], orientation: str | None = None) -> list[Volume]:
    """One volume per input on the grid of ``series``, which is the only one when ``inputs`` is empty.

    Raises ``Unsuitable`` when a companion is absent or lies in another frame of reference.
    """
    volume = series.volume(orientation)
    return [volume if name == THIS else _resampled(name, series, volume) for name in inputs or (THIS,)]


def _resampled(name: str, series: Series, volume: Volume) -> Volume:
    companion = series.companion(name)
    if companion is None:
        raise Unsuitable(
            sentence("The model also needs the series {name}, which this study does not offer", name=repr(name))
        )
    other = companion.volume()
    if volume.frame_of_reference_uid != other.frame_of_reference_uid:
        raise Unsuitable(sentence("The series {name} lies in another frame of reference", name=repr(name)))
    across = np.linalg.inv(other.affine) @ volume.affine
    # Not "constant": that would drop edge voxels which rounding puts a hair outside.
    return volume.with_array(
        affine_transform(other.array, across, output_shape=volume.array.shape, order=1, mode="grid-constant")
    )

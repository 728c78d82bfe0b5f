"""Input channels of a model: this series, its companions and masks of other pipelines on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import affine_transform

from node.pipeline import Series, Unsuitable, Volume, sentence
from pipelines.result_masks import SEPARATOR, Crop, mask_of

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
            f"each the companion of the rule, {THIS!r} for the series itself, or PIPELINE:LABEL (a mask), in this order"
        )


def channels(
    series: Series, inputs: Sequence[str], orientation: str | None = None, crop: Crop | None = None
) -> list[Volume]:
    """One volume per input on the grid of ``series``, which is the only one when ``inputs`` is empty.

    All are cropped to the box of ``crop``. Raises ``Unsuitable`` when a companion is absent or lies in another frame of
    reference, or when a mask of another pipeline's result is empty.
    """
    volume = series.volume(orientation)
    volumes = [_input(name, series, volume, orientation) for name in inputs or (THIS,)]
    if crop is None:
        return volumes
    box = crop.box(series, orientation)
    return [_contiguous(channel[box]) for channel in volumes]  # type: ignore[index]  # highdicom names one slice only


def _input(name: str, series: Series, volume: Volume, orientation: str | None) -> Volume:
    if name == THIS:
        return volume
    if SEPARATOR in name:
        return volume.with_array(mask_of(name, series, orientation).array.astype(np.float32))
    return _resampled(name, series, volume)


def _contiguous(volume: Volume) -> Volume:
    return volume.with_array(np.ascontiguousarray(volume.array))


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

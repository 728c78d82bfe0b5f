"""Training data in the form of nnU-Net v2: ``dataset.json``, ``imagesTr``, ``labelsTr`` and ``splits_final.json``.

``ainode export`` writes such folders; so do nnU-Net's own tools and most published sets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

DESCRIPTION = "dataset.json"


class DataSetError(ValueError):
    """A folder is no data set that can be trained on."""


@dataclass(frozen=True, kw_only=True)
class NnunetDataSet:
    """A folder with its cases."""

    folder: Path
    channels: Mapping[str, str]
    """Name by number, as ``{"0": "FLAIR"}``."""
    ending: str
    splits: Mapping[str, tuple[str, ...]]
    """Cases of "train" and "val": the first fold."""

    def channel(self, name: str) -> str:
        """Return the number of a channel; of a set with one channel that one, whatever its name.

        Raises ``DataSetError`` when none of several has the name.
        """
        if len(self.channels) == 1:
            return next(iter(self.channels))
        for number, called in self.channels.items():
            if called.casefold() == name.casefold():
                return number
        raise DataSetError(f"{self.folder / DESCRIPTION}: no channel {name} among {', '.join(self.channels.values())}")

    def read(self, case: str, channel: str) -> tuple[nibabel.Nifti1Image, nibabel.Nifti1Image]:
        """Return image and map of a case, turned so that axes run most nearly right, anterior and to the head.

        Raises ``FileNotFoundError`` when one is missing, ``DataSetError`` when their grids differ.
        """
        paths = (
            self.folder / "imagesTr" / f"{case}_{int(channel):04d}{self.ending}",
            self.folder / "labelsTr" / f"{case}{self.ending}",
        )
        image, label = (nibabel.as_closest_canonical(nibabel.load(path)) for path in paths)
        if image.shape != label.shape or not np.allclose(image.affine, label.affine, atol=1e-2):
            raise DataSetError(f"{paths[1]}: its grid is not that of {paths[0].name}")
        return image, label


def read_data_set(folder: Path) -> NnunetDataSet:
    """Read the description of a data set.

    Raises ``DataSetError`` naming what is missing or wrong, and what to do about it.
    """
    described = _json(folder / DESCRIPTION)
    channels = described.get("channel_names") if isinstance(described, dict) else None
    ending = described.get("file_ending") if isinstance(described, dict) else None
    if not isinstance(channels, dict) or not channels or not isinstance(ending, str):
        raise DataSetError(
            f"{folder / DESCRIPTION} lacks channel_names or file_ending; it is no data set of nnU-Net v2"
        )
    cases = {path.name.removesuffix(ending) for path in (folder / "labelsTr").glob(f"*{ending}")}
    if not cases:
        raise DataSetError(f"{folder / 'labelsTr'} holds no map that ends with {ending}; the data set is empty")
    if not (folder / "splits_final.json").is_file():
        raise DataSetError(
            f"{folder / 'splits_final.json'} is missing: it says which cases to train on and which to validate on, "
            "with no patient in both. `ainode export` writes it for two patients and more"
        )
    folds = _json(folder / "splits_final.json")
    first = folds[0] if isinstance(folds, list) and folds else None
    if not isinstance(first, dict) or not all(first.get(part) for part in ("train", "val")):
        raise DataSetError(f"{folder / 'splits_final.json'} has no first fold with cases to train and to validate on")
    splits = {part: tuple(map(str, first[part])) for part in ("train", "val")}
    if unknown := sorted({*splits["train"], *splits["val"]} - cases):
        raise DataSetError(f"{folder / 'splits_final.json'} names {unknown[0]}, of which labelsTr has no map")
    return NnunetDataSet(folder=folder, channels=channels, ending=ending, splits=splits)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataSetError(f"{path} is no JSON ({error})") from error


def axial_stack(image: nibabel.Nifti1Image) -> NDArray[np.float32]:
    """Values ``[slice, row, column]``: from foot to head, from anterior to posterior, from right to left."""
    return np.ascontiguousarray(image.get_fdata(dtype=np.float32).transpose(2, 1, 0)[:, ::-1, ::-1])

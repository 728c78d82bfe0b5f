"""Training data in the form of nnU-Net v2: ``dataset.json``, ``imagesTr``, ``labelsTr`` and ``splits_final.json``.

``ainode export`` writes such folders; so do nnU-Net's own tools and most published sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
    labels: frozenset[int]
    """Values that a map may hold."""

    def channel(self, *names: str) -> int:
        """Return the number of the channel that has one of ``names``, the first before the others.

        Raises ``DataSetError`` when none has.
        """
        for name in names:
            for number, called in self.channels.items():
                if called.casefold() == name.casefold():
                    return int(number)
        raise DataSetError(
            f"{self.folder / DESCRIPTION}: no channel {' or '.join(names)} among {', '.join(self.channels.values())}; "
            f"give such images, or name the channel {names[0]} if it is that under another name"
        )

    def read(self, case: str, channel: int) -> tuple[nibabel.Nifti1Image, nibabel.Nifti1Image]:
        """Return image and map of a case, turned as ``image`` is.

        Raises ``FileNotFoundError`` when one is missing, ``DataSetError`` when one cannot be read, their grids differ
        or the map holds a value that is no label.
        """
        path = self.folder / "labelsTr" / f"{case}{self.ending}"
        image, label = self.image(case, channel), _volume(path)
        if image.shape != label.shape or not np.allclose(image.affine, label.affine, atol=1e-2):
            raise DataSetError(f"{path}: its grid is not that of {self._image(case, channel).name}")
        if strange := sorted({*map(float, np.unique(np.asanyarray(label.dataobj)))} - self.labels):
            raise DataSetError(
                f"{path} holds the value {strange[0]:g}, which is no label of {DESCRIPTION}; add or mend it"
            )
        return image, label

    def image(self, case: str, channel: int) -> nibabel.Nifti1Image:
        """Return the image of a case, turned so that axes run most nearly right, anterior and to the head.

        Raises ``FileNotFoundError`` when it is missing, ``DataSetError`` when it cannot be read.
        """
        return _volume(self._image(case, channel))

    def _image(self, case: str, channel: int) -> Path:
        return self.folder / "imagesTr" / f"{case}_{channel:04d}{self.ending}"


def is_data_set(data: Path, index: str) -> bool:
    """Return whether a folder is a data set of nnU-Net v2, or one of this project, which holds the file ``index``.

    Raises ``DataSetError`` when it is neither.
    """
    if (data / DESCRIPTION).is_file():
        return True
    if (data / index).is_file():
        return False
    raise DataSetError(
        f"{data} holds neither {DESCRIPTION} (a data set of nnU-Net v2, as `ainode export` writes) nor {index}; "
        "give the folder of a data set"
    )


def read_data_set(folder: Path, *, maps: bool = True) -> NnunetDataSet:
    """Read the description of a data set; without ``maps`` its cases need none.

    Raises ``DataSetError`` naming what is missing or wrong, and what to do about it.
    """
    described = _json(folder / DESCRIPTION)
    channels = described.get("channel_names") if isinstance(described, dict) else None
    ending = described.get("file_ending") if isinstance(described, dict) else None
    if not isinstance(channels, dict) or not channels or not isinstance(ending, str):
        raise DataSetError(
            f"{folder / DESCRIPTION} lacks channel_names or file_ending; it is no data set of nnU-Net v2"
        )
    if wrong := next((f"{k}: {v}" for k, v in channels.items() if not (k.isdecimal() and isinstance(v, str))), None):
        raise DataSetError(f"{folder / DESCRIPTION}: channel_names has {wrong}; give names by number, as 0: FLAIR")
    part, last, kind = ("labelsTr", ending, "map") if maps else ("imagesTr", f"_0000{ending}", "image")
    cases = {path.name.removesuffix(last) for path in (folder / part).glob(f"*{last}")}
    if not cases:
        raise DataSetError(f"{folder / part} holds no {kind} that ends with {last}; the data set is empty")
    splits = _splits(folder / "splits_final.json")
    if unknown := sorted({*splits["train"], *splits["val"]} - cases):
        raise DataSetError(f"{folder / 'splits_final.json'} names {unknown[0]}, of which {part} has no {kind}")
    labels = frozenset(_label_values(described.get("labels"))) if maps else frozenset[int]()
    return NnunetDataSet(folder=folder, channels=channels, ending=ending, splits=splits, labels=labels)


def _splits(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        raise DataSetError(
            f"{path} is missing: it says which cases to train on and which to validate on, with no patient in both. "
            "`ainode export` writes it for two patients and more"
        )
    folds = _json(path)
    first = folds[0] if isinstance(folds, list) and folds else None
    parts = {part: first.get(part) if isinstance(first, dict) else None for part in ("train", "val")}
    if not all(isinstance(cases, list) and cases for cases in parts.values()):
        raise DataSetError(f"{path} has no first fold with lists of cases to train and to validate on")
    splits = {part: tuple(map(str, cases or ())) for part, cases in parts.items()}
    if both := sorted({*splits["train"]} & {*splits["val"]}):
        raise DataSetError(f"{path} has {both[0]} in train and in val of its first fold; leave it in one of them")
    return splits


def _label_values(labels: Any) -> Iterator[int]:
    """Values of all labels; a region has several."""
    for value in labels.values() if isinstance(labels, dict) else ():
        yield from (number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataSetError(f"{path} is no JSON ({error})") from error


def _volume(path: Path) -> nibabel.Nifti1Image:
    try:
        volume = nibabel.as_closest_canonical(nibabel.load(path))
        np.asanyarray(volume.dataobj)
    except FileNotFoundError:
        raise
    except (nibabel.filebasedimages.ImageFileError, EOFError, OSError, ValueError) as error:
        raise DataSetError(f"{path} cannot be read ({error}); write it again") from error
    if len(volume.shape) != 3:
        raise DataSetError(f"{path} has {len(volume.shape)} dimensions; give one volume of three")
    return volume


def axial_stack(image: nibabel.Nifti1Image) -> NDArray[np.float32]:
    """Values ``[slice, row, column]``: from foot to head, from anterior to posterior, from right to left."""
    return np.ascontiguousarray(image.get_fdata(dtype=np.float32).transpose(2, 1, 0)[:, ::-1, ::-1])

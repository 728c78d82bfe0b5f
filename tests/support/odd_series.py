"""Series as scanners make them beside the plain ones: oblique, tilted, multi-frame, with something missing or twice."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from enhanced_files import enhanced
from pydicom import FileDataset
from pydicom.uid import generate_uid


def oblique(tilt: float, turn: float) -> tuple[float, ...]:
    """Axial, turned about two axes (degrees)."""
    a, b = np.radians([tilt, turn])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return tuple((about_x @ about_z @ np.array([[1, 0], [0, 1], [0, 0]])).T.ravel().round(9))


def flipped_columns(orientation: tuple[float, ...]) -> tuple[float, ...]:
    """Columns run the other way; the normal turns round with them, so the slices do too."""
    return (*(-v for v in orientation[:3]), *orientation[3:])


def tilted(datasets: list[FileDataset], down: float, right: float = 0.0) -> list[FileDataset]:
    """Each image shifted against the one before, mm along its columns and rows, as a tilted gantry does."""
    for index, dataset in enumerate(datasets):
        cosines = np.array(dataset.ImageOrientationPatient, float)
        position = np.array(dataset.ImagePositionPatient, float) + index * (down * cosines[3:] + right * cosines[:3])
        dataset.ImagePositionPatient = [round(float(v), 6) for v in position]
    return datasets


def with_gap(datasets: list[FileDataset]) -> list[FileDataset]:
    """Without the second: most of the images are beyond it."""
    return datasets[:1] + datasets[2:]


def with_repeat(datasets: list[FileDataset]) -> list[FileDataset]:
    """The third position once more, later and with other pixels."""
    again = deepcopy(datasets[2])
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    again.InstanceNumber = 99
    again.PixelData = bytes(len(again.PixelData))
    return [*datasets, again]


def with_scout(datasets: list[FileDataset]) -> list[FileDataset]:
    """An image of another orientation in the same series."""
    scout = deepcopy(datasets[0])
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    scout.ImageOrientationPatient = [0.6, 0.8, 0, 0, 0, -1]
    return [scout, *datasets]


def with_other_frames_of_reference(datasets: list[FileDataset]) -> list[FileDataset]:
    """Each image states another Frame of Reference, as after a faulty de-identification."""
    for dataset in datasets:
        dataset.FrameOfReferenceUID = generate_uid()
    return datasets


SERIES = {
    "single images": lambda d: d,
    "Enhanced": enhanced,
    "Enhanced, frames in any order": lambda d: enhanced(d, shuffle=3),
    "Enhanced, in three files": lambda d: enhanced(d, files=3, shuffle=4),
    "tilted gantry": lambda d: tilted(d, 0.61),
    "gantry tilted the other way": lambda d: tilted(d, -0.9),
    "tilted in both directions": lambda d: tilted(d, 0.35, -0.5),
    "Enhanced, tilted gantry": lambda d: enhanced(tilted(d, 0.61)),
    "a slice missing": with_gap,
    "a slice missing in an Enhanced object": lambda d: enhanced(with_gap(d)),
    "a position twice": with_repeat,
    "an image of another orientation": with_scout,
    "another frame of reference in every image": with_other_frames_of_reference,
}

"""What another pipeline has found on a series, read from the objects that were made of it."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from highdicom import Volume

from node.errors import InputError
from node.studies.header import read_header
from node.studies.identity import PATIENT, contradictions
from node.studies.segment_masks import SegmentedObject, masks_on, place_in_grid, read_object

if TYPE_CHECKING:
    from node.studies.source import SourceSeries

_DIGEST = re.compile("[0-9a-f]{64}")
_COMMON = (*PATIENT, "StudyInstanceUID")


class SourceResult:
    """Implements ``node.pipeline.Result``; pixels are read when a mask is asked for."""

    def __init__(
        self, described_by: Path, segmentation: Path | None, source: SourceSeries, *, partial: str = ""
    ) -> None:
        """``described_by``: an object of the result. ``source``: the images that it is about.

        Raises ``InputError`` when the object cannot be read, or is of another study or patient.
        """
        header = read_header(described_by)
        if keywords := contradictions((header, *source.datasets), _COMMON):
            raise InputError(f"{described_by.name}: {', '.join(keywords)} is not that of the images")
        versions = header.get("SoftwareVersions") or ()
        self.algorithm = str(header.get("ManufacturerModelName") or "")
        self.version = versions if isinstance(versions, str) else str(next(iter(versions), ""))
        self.sop_instance_uid = str(header.SOPInstanceUID)
        serial = str(header.get("DeviceSerialNumber") or "")
        self.weights_sha256 = serial if _DIGEST.fullmatch(serial) else ""  # else it repeats name and version
        self.partial = partial
        self._segmentation = segmentation
        self._source = source

    @property
    def labels(self) -> tuple[str, ...]:
        """See ``node.pipeline.Result.labels``."""
        return tuple(self._numbers)

    def mask(self, label: str, orientation: str | None = None) -> Volume | None:
        """See ``node.pipeline.Result.mask``. Raises ``InputError`` when the object cannot be decoded."""
        if self._segmented is None or label not in self._numbers:
            return None
        geometry = self._source.geometry
        array = np.zeros(geometry.spatial_shape, np.uint8)
        for place, pixels in place_in_grid(self._segmented.masks[self._numbers[label]], self._source):
            array[place] |= pixels
        volume = Volume(
            array,
            geometry.affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=geometry.frame_of_reference_uid,
        )
        if orientation is None:
            return volume
        volume = volume.to_patient_orientation(orientation)
        return volume.with_array(np.ascontiguousarray(volume.array))

    @cached_property
    def _segmented(self) -> SegmentedObject | None:
        if self._segmentation is None:
            return None
        read = read_object(self._segmentation)
        if "FrameOfReferenceUID" not in read:  # of single images, not of the volume
            return None
        return masks_on(read, self._source)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        if self._segmented is None:
            return {}
        return {str(item.SegmentLabel): number for number, item in self._segmented.segments.items()}

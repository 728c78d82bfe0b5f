"""One image of a stored series as pipelines see it: what its header says of view and spacing, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.pipeline.series_image import PixelSpacing
from node.studies.grid import numbers
from node.studies.pixel_data import displayed, in_colour, read_pixels
from node.studies.pydicom_errors import UNREADABLE

ImageName = tuple[str, int | None]
"""SOP Instance UID, and frame number of a frame."""
_VIEWS: dict[str, Code] = {
    "AP": codes.cid4010.AnteroPosterior,
    "PA": codes.cid4010.PosteroAnterior,
    "LL": codes.cid4010.LeftLateral,
    "RL": codes.cid4010.RightLateral,
    "CC": codes.cid4014.CranioCaudal,
    "MLO": codes.cid4014.MedioLateralObliqueProjection,
    "ML": codes.cid4014.MedioLateralProjection,
    "LM": codes.cid4014.LateroMedial,
    "LMO": codes.cid4014.LateroMedialOblique,
    "FB": codes.cid4014.CaudoCranial,
    "XCCL": codes.cid4014.CranioCaudalExaggeratedLaterally,
    "XCCM": codes.cid4014.CranioCaudalExaggeratedMedially,
}
"""View Codes (CID 4010, 4014) by the View Position of the same meaning (PS3.3 C.8.11.7.1.1)."""
_LATERALITIES = ("ImageLaterality", "FrameLaterality", "Laterality")
_CALIBRATED = ("GEOMETRY", "FIDUCIAL")
"""Pixel Spacing Calibration Type (0028,0A02)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceImage:
    """Implements ``node.pipeline.SeriesImage``."""

    path: Path
    header: Dataset

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID (0008,0018)."""
        return str(self.header.SOPInstanceUID)

    @property
    def frame(self) -> int | None:
        """Frame number, from 1; ``None`` of an image without frames."""
        number = self.header.get("ReferencedFrameNumber")
        return None if number is None else int(number)

    @property
    def name(self) -> ImageName:
        """SOP Instance UID and frame number."""
        return self.sop_instance_uid, self.frame

    @property
    def rows(self) -> int:
        """Rows (0028,0010)."""
        return int(self.header.Rows)

    @property
    def columns(self) -> int:
        """Columns (0028,0011)."""
        return int(self.header.Columns)

    @property
    def view(self) -> str:
        """View Position, else the value that means the same as the View Code; ``""`` when neither is stated."""
        return view_of(self.header)

    @property
    def laterality(self) -> str:
        """``L``, ``R`` or ``B``; ``""`` when it is not stated."""
        return laterality_of(self.header)

    @property
    def orientation(self) -> tuple[str, str] | None:
        """Patient Orientation; ``None`` when it is not stated."""
        return orientation_of(self.header)

    @property
    def pixel_spacing(self) -> PixelSpacing | None:
        """Spacing with the place where it is true; ``None`` when it is not stated."""
        return spacing_of(self.header)

    def attribute(self, keyword: str) -> Any:
        """Value of a DICOM attribute by keyword, ``None`` when absent."""
        return self.header.get(keyword)

    def values(self) -> NDArray[np.float32]:
        """See ``node.pipeline.SeriesImage.values``."""
        return np.ascontiguousarray(next(read_pixels(self.path, [self.header], apply_modality_lut)), np.float32)

    def grey(self) -> NDArray[np.float32]:
        """See ``node.pipeline.SeriesImage.grey``."""
        return np.ascontiguousarray(next(read_pixels(self.path, [self.header], displayed)))

    def rgb(self) -> NDArray[np.uint8]:
        """See ``node.pipeline.SeriesImage.rgb``."""
        return np.ascontiguousarray(next(read_pixels(self.path, [self.header], in_colour, colour=True)))


def view_of(header: Dataset) -> str:
    """View Position in capitals, else the value that means the same as the View Code; ``""`` for neither."""
    stated = str(header.get("ViewPosition") or "").strip().upper()
    if stated:
        return stated
    for item in header.get("ViewCodeSequence") or ():
        code = Code(str(item.get("CodeValue")), str(item.get("CodingSchemeDesignator")), str(item.get("CodeMeaning")))
        for view, known in _VIEWS.items():
            if code == known:
                return view
    return ""


def laterality_of(header: Dataset) -> str:
    """Image Laterality, else that of the frame, else of the series: ``L``, ``R``, ``B`` or ``""``."""
    stated = (str(header.get(keyword) or "").strip().upper() for keyword in _LATERALITIES)
    return next((value for value in stated if value in ("L", "R", "B")), "")


def orientation_of(header: Dataset) -> tuple[str, str] | None:
    """Patient Orientation, of rows and of columns; ``None`` unless both are stated."""
    stated = header.get("PatientOrientation")
    values = [] if stated is None or isinstance(stated, str) else [str(value).strip() for value in stated]
    return (values[0], values[1]) if len(values) == 2 and all(values) else None


def spacing_of(header: Dataset) -> PixelSpacing | None:
    """Spacing of the pixels, and where it is true (PS3.3 10.7.1.3).

    Pixel Spacing that differs from Imager Pixel Spacing, or has a calibration type, was calibrated; so was that of an
    image with a place in the patient. Any other, and Imager Pixel Spacing, is true at the detector.
    """
    try:
        pixel, imager = (numbers(header, keyword, 2) for keyword in ("PixelSpacing", "ImagerPixelSpacing"))
        placed = numbers(header, "ImagePositionPatient", 3) is not None
        calibrated = str(header.get("PixelSpacingCalibrationType") or "").strip() in _CALIBRATED
    except UNREADABLE:
        return None
    spacing = imager if pixel is None else pixel
    if spacing is None or not (spacing > 0).all():
        return None
    differs = pixel is not None and imager is not None and bool(np.abs(pixel - imager).max() > 1e-6)
    at_patient = pixel is not None and (placed or calibrated or differs)
    return PixelSpacing(float(spacing[0]), float(spacing[1]), "patient" if at_patient else "detector")

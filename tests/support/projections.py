"""Synthetic radiographs and mammograms: one image each, without geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
from dicom_files import bare_object, put_pixels
from pydicom import Dataset, FileDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    UltrasoundMultiFrameImageStorage,
)


def _body(rows: int, columns: int, *, seed: int = 3) -> np.ndarray:
    """A soft ellipse with noise, 12 bits."""
    row, column = np.mgrid[0:rows, 0:columns]
    distance = ((row - rows / 2) / (rows / 2)) ** 2 + ((column - columns / 2) / (columns / 2)) ** 2
    noise = np.random.default_rng(seed).normal(0, 15, (rows, columns))
    return np.clip(2600 * np.clip(1.1 - distance, 0, 1) + 300 + noise, 0, 4095).astype(np.uint16)


def chest_xray(
    rows: int = 96, columns: int = 80, *, view: str = "PA", bright: tuple[slice, slice] | None = None, **place: Any
) -> FileDataset:
    """A DX image (PS3.3 A.26) of a chest; ``bright``: rows and columns of an opacity. ``place``: as of an object."""
    dataset = bare_object(DigitalXRayImageStorageForPresentation, "DX", **place)
    pixels = _body(rows, columns)
    if bright is not None:
        pixels[bright] = 4000
    put_pixels(dataset, pixels, signed=False)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = view
    dataset.PatientOrientation = ["L", "F"] if view == "PA" else ["P", "F"]
    dataset.ImagerPixelSpacing = [0.2, 0.2]
    dataset.WindowCenter, dataset.WindowWidth = 2048.0, 4096.0
    _projection(dataset, ("43799004", "Thoracic cavity"))
    return dataset


def mammogram(
    rows: int = 120,
    columns: int = 90,
    *,
    side: str = "R",
    view: str = "MLO",
    spot: tuple[int, int] = (0, 0),
    **place: Any,
) -> FileDataset:
    """An MG image (PS3.3 A.27), stored as MONOCHROME1; ``spot``: row and column of a calcification."""
    dataset = bare_object(DigitalMammographyXRayImageStorageForPresentation, "MG", **place)
    pixels = 4095 - _body(rows, columns)
    if spot != (0, 0):
        pixels[spot[0] : spot[0] + 2, spot[1] : spot[1] + 2] = 0
    put_pixels(dataset, pixels, signed=False)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.PresentationLUTShape = "INVERSE"
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.BodyPartExamined = "BREAST"
    dataset.ImageLaterality, dataset.ViewPosition = side, view
    view_code = Dataset()
    view_code.CodeValue, view_code.CodingSchemeDesignator, view_code.CodeMeaning = (
        "R-10226",
        "SRT",
        "medio-lateral oblique",
    )
    view_code.ViewModifierCodeSequence = []
    dataset.ViewCodeSequence = [view_code]
    dataset.PatientOrientation = ["A", "FL"] if side == "R" else ["P", "FR"]
    dataset.ImagerPixelSpacing = [0.1, 0.1]
    dataset.EstimatedRadiographicMagnificationFactor = 1.05
    dataset.WindowCenter, dataset.WindowWidth = 2048.0, 4096.0
    _projection(dataset, ("76752008", "Breast"))
    dataset.OrganExposed = "BREAST"
    dataset.PositionerType = "MAMMOGRAPHIC"
    return dataset


def cine(frames: int = 3, rows: int = 40, columns: int = 60, *, colour: bool = True, **place: Any) -> FileDataset:
    """A multi-frame US image (PS3.3 A.7); each frame is brighter than the one before."""
    dataset = bare_object(UltrasoundMultiFrameImageStorage, "US", **place)
    samples = 3 if colour else 1
    pixels = np.stack([np.full((rows, columns, samples), 40 * (n + 1), np.uint8) for n in range(frames)])
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.ImageType, dataset.BodyPartExamined, dataset.PatientOrientation = ["ORIGINAL", "PRIMARY"], "ABDOMEN", ""
    dataset.FrameTime = 40.0
    dataset.FrameIncrementPointer = 0x00181063
    dataset.PixelData = pixels.tobytes()
    return dataset


def _projection(dataset: Dataset, region: tuple[str, str]) -> None:
    """What the modules of DX and MG images require (PS3.3 A.26, A.27)."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0.0, 1.0, "US"
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", 1
    if "PresentationLUTShape" not in dataset:
        dataset.PresentationLUTShape = "IDENTITY"
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.DetectorType = "DIRECT"
    if "ImageLaterality" not in dataset:
        dataset.ImageLaterality, dataset.PositionerType = "U", ""
    anatomy = Dataset()
    anatomy.CodeValue, anatomy.CodeMeaning = region
    anatomy.CodingSchemeDesignator = "SCT"
    dataset.AnatomicRegionSequence = [anatomy]
    dataset.AcquisitionContextSequence = []

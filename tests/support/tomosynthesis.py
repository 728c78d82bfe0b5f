"""A synthetic digital breast tomosynthesis: one multi-frame object of reconstructed slices (PS3.3 A.55)."""

from __future__ import annotations

import numpy as np
from dicom_files import bare_object
from pydicom import Dataset, FileDataset
from pydicom.sr.coding import Code
from pydicom.uid import BreastTomosynthesisImageStorage, generate_uid

SPACING_MM, STEP_MM = 0.1, 1.0
_ROW, _COLUMN = (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)
"""Of a projection from the side (ML), left breast: rows run to the back, columns to the feet."""


def tomosynthesis(
    frames: int = 9, rows: int = 80, columns: int = 60, *, spot: tuple[int, int, int] = (4, 30, 20), side: str = "L"
) -> FileDataset:
    """Frames from the detector on; ``spot``: frame (from 0), row and column of a calcification of 3 x 3 pixels."""
    dataset = bare_object(BreastTomosynthesisImageStorage, "MG")
    pixels = _breast(frames, rows, columns)
    pixels[spot[0], spot[1] : spot[1] + 3, spot[2] : spot[2] + 3] = 1000
    _pixels(dataset, pixels)
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = generate_uid(), ""
    dataset.ManufacturerModelName, dataset.DeviceSerialNumber, dataset.SoftwareVersions = "Phantom", "1", "1"
    dataset.ImageType = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]
    dataset.PixelPresentation, dataset.VolumetricProperties = "MONOCHROME", "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "TOMOSYNTHESIS"
    dataset.ContentQualification, dataset.BodyPartExamined = "RESEARCH", "BREAST"
    dataset.ImageComments, dataset.BurnedInAnnotation, dataset.LossyImageCompression = "", "NO", "00"
    dataset.PresentationLUTShape, dataset.BreastImplantPresent = "IDENTITY", "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.ViewCodeSequence = [_coded(Code("399260004", "SCT", "medio-lateral"))]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    dataset.AcquisitionContextSequence = []
    dataset.XRay3DAcquisitionSequence = [_acquisition()]
    dataset.XRay3DReconstructionSequence = [_reconstruction()]
    dataset.ContributingSourcesSequence = [_source()]
    dimension = generate_uid()
    dataset.DimensionOrganizationSequence = [_of(DimensionOrganizationUID=dimension)]
    dataset.DimensionIndexSequence = [
        _of(DimensionOrganizationUID=dimension, DimensionIndexPointer=0x00200032, FunctionalGroupPointer=0x00209113)
    ]
    dataset.SharedFunctionalGroupsSequence = [_shared(side)]
    dataset.PerFrameFunctionalGroupsSequence = [_frame(number, frames) for number in range(frames)]
    return dataset


def _breast(frames: int, rows: int, columns: int) -> np.ndarray:
    row, column = np.mgrid[0:rows, 0:columns]
    shape = np.clip(1 - ((row - rows / 2) / (rows / 2)) ** 2 - (column / columns) ** 2, 0, 1)
    noise = np.random.default_rng(5).normal(0, 8, (frames, rows, columns))
    return np.clip(500 * shape + 40 + noise, 0, 1023).astype(np.uint16)


def _pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 10, 9, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()


def _shared(side: str) -> Dataset:
    anatomy = _of(FrameLaterality=side, AnatomicRegionSequence=[_coded(Code("76752008", "SCT", "Breast"))])
    return _of(
        PixelMeasuresSequence=[_of(PixelSpacing=[SPACING_MM, SPACING_MM], SliceThickness=STEP_MM)],
        PlaneOrientationSequence=[_of(ImageOrientationPatient=[*_ROW, *_COLUMN])],
        FrameAnatomySequence=[anatomy],
        PixelValueTransformationSequence=[_of(RescaleIntercept=0.0, RescaleSlope=1.0, RescaleType="US")],
        FrameVOILUTSequence=[_of(WindowCenter=512.0, WindowWidth=1024.0)],
    )


def _frame(number: int, frames: int) -> Dataset:
    content = _of(
        StackID="1",
        InStackPositionNumber=number + 1,
        DimensionIndexValues=[number + 1],
        FrameAcquisitionNumber=1,
        FrameAcquisitionDateTime="20260102101112",
        FrameReferenceDateTime="20260102101112",
        FrameAcquisitionDuration=4000.0,
    )
    position = _of(ImagePositionPatient=[50.0 - STEP_MM * (number - frames / 2), -60.0, 40.0])
    kind = _of(
        FrameType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="TOMOSYNTHESIS",
        ReconstructionIndex=1,
    )
    return _of(FrameContentSequence=[content], PlanePositionSequence=[position], XRay3DFrameTypeSequence=[kind])


def _acquisition() -> Dataset:
    return _of(
        KVP=29.0, XRayTubeCurrentInmA=100.0, ExposureTimeInms=1200.0, ExposureInmAs=60.0, FocalSpots=0.3,
        AnodeTargetMaterial="TUNGSTEN", BodyPartThickness=50.0, CompressionForce=100.0, PaddleDescription="flat",
        ExposureControlMode="AUTOMATIC", ExposureControlModeDescription="none", HalfValueLayer=0.5, OrganDose=0.02,
        EntranceDoseInmGy=5.0, DistanceSourceToDetector=660.0, DistanceSourceToPatient=640.0,
        FieldOfViewShape="RECTANGLE", FieldOfViewDimensionsInFloat=[8.0, 6.0], FieldOfViewOrigin=[0.0, 0.0],
        Grid="NONE", EstimatedRadiographicMagnificationFactor=1.05, XRayReceptorType="DIGITAL_DETECTOR",
        PerProjectionAcquisitionSequence=[_projection()],
        DetectorTemperature=25.0, FilterType="STRIP", FilterMaterial=["ALUMINUM"], FilterThicknessMinimum=0.7,
        FilterThicknessMaximum=0.7, PrimaryPositionerScanArc=15.0, PrimaryPositionerScanStartAngle=-7.5,
        PrimaryPositionerIncrement=1.0,
    )  # fmt: skip


def _projection() -> Dataset:
    return _of(
        PositionerPrimaryAngle=0.0, PositionerPrimaryAngleDirection="CW", FrameAcquisitionDuration=50.0, KVP=29.0,
        ExposureTimeInms=50.0, XRayTubeCurrentInmA=100.0, ExposureInmAs=5.0, RelativeXRayExposure=100,
        EntranceDoseInmGy=0.3, OrganDose=0.001,
    )  # fmt: skip


def _reconstruction() -> Dataset:
    return _of(
        ReconstructionDescription="", ApplicationName="Phantom", ApplicationVersion="1",
        ApplicationManufacturer="AI node tests", AlgorithmType="FILTER_BACK_PROJ", AlgorithmDescription="",
        AcquisitionIndex=[1],
    )  # fmt: skip


def _source() -> Dataset:
    return _of(
        Manufacturer="AI node tests", ManufacturerModelName="Phantom", DeviceSerialNumber="1", SoftwareVersions="1",
        AcquisitionDateTime="20260102101112", DetectorType="DIRECT", DetectorID="1", Rows=80, Columns=60, BitsStored=10,
        LossyImageCompression="00", DateOfLastDetectorCalibration="20260101", TimeOfLastDetectorCalibration="080000",
        DetectorElementSpacing=[0.1, 0.1],
    )  # fmt: skip


def _coded(code: Code) -> Dataset:
    return _of(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)


def _of(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item

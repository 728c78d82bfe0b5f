"""Encoded data sets whose headers are large for good reasons, Explicit VR Little Endian."""

from __future__ import annotations

from collections.abc import Callable

from dicom_files import ct_series, text_report
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    EnhancedMRImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)
from receivers import encode


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def repeated(sequence: str, content: Dataset, count: int) -> bytes:
    """A sequence of ``count`` equal items."""
    encoded = encode(item(**{sequence: [content]}))
    head, encoded_item = encoded[:8], encoded[12:]
    return head + (len(encoded_item) * count).to_bytes(4, "little") + encoded_item * count


def identity(sop_class: str, modality: str) -> Dataset:
    dataset = Dataset({e.tag: e for e in ct_series(1, 8)[0] if e.tag < 0x00280000 and e.keyword != "Modality"})
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = sop_class, generate_uid(), modality
    return dataset


def code(meaning: str = "Lung structure") -> list[Dataset]:
    return [item(CodeValue="39607008", CodingSchemeDesignator="SCT", CodeMeaning=meaning)]


def enhanced(frames: int = 10_000) -> tuple[Dataset, bytes]:
    """Functional groups as a scanner writes them, for each of 10,000 frames."""
    groups = item(
        MREchoSequence=[item(EffectiveEchoTime=3.0)],
        MRImageFrameTypeSequence=[
            item(
                FrameType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE",
                ComplexImageComponent="MAGNITUDE",
                AcquisitionContrast="DIFFUSION",
            )
        ],
        MRDiffusionSequence=[
            item(
                DiffusionBValue=1000.0,
                DiffusionDirectionality="DIRECTIONAL",
                DiffusionGradientDirectionSequence=[item(DiffusionGradientOrientation=[0.0, 0.0, 1.0])],
            )
        ],
        MRAveragesSequence=[item(NumberOfAverages=1.0)],
        MRTimingAndRelatedParametersSequence=[
            item(
                RepetitionTime=9000.0, FlipAngle=90.0, EchoTrainLength=1, RFEchoTrainLength=0, GradientEchoTrainLength=0
            )
        ],
        FrameContentSequence=[
            item(
                FrameAcquisitionDateTime="20260102101112",
                FrameReferenceDateTime="20260102101112",
                FrameAcquisitionDuration=30.0,
                StackID="1",
                InStackPositionNumber=1,
                TemporalPositionIndex=1,
                DimensionIndexValues=[1, 1, 1],
            )
        ],
        PlanePositionSequence=[item(ImagePositionPatient=[-100.0, -100.0, 30.0])],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])],
        PixelMeasuresSequence=[item(SliceThickness=2.0, SpacingBetweenSlices=2.0, PixelSpacing=[1.0, 1.0])],
        FrameVOILUTSequence=[item(WindowCenter=500.0, WindowWidth=1000.0)],
        PixelValueTransformationSequence=[item(RescaleIntercept=0.0, RescaleSlope=1.0, RescaleType="US")],
        RealWorldValueMappingSequence=[
            item(
                LUTLabel="1", RealWorldValueSlope=1.0, RealWorldValueIntercept=0.0, MeasurementUnitsCodeSequence=code()
            )
        ],
    )
    dataset = identity(EnhancedMRImageStorage, "MR")
    dataset.NumberOfFrames = frames
    return dataset, repeated("PerFrameFunctionalGroupsSequence", groups, frames)


def structure_set() -> tuple[Dataset, bytes]:
    """60 MB of contours."""
    contour = item(
        ContourImageSequence=[item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=generate_uid())],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=500,
        ContourData=["-123.4", "-234.5", "345.6"] * 500,
    )
    contours = repeated("ContourSequence", contour, 100)
    encoded_item = b"\xfe\xff\x00\xe0" + len(contours).to_bytes(4, "little") + contours
    return identity(RTStructureSetStorage, "RTSTRUCT"), b"\x06\x30\x39\0SQ\0\0" + (len(encoded_item) * 50).to_bytes(
        4, "little"
    ) + encoded_item * 50


def tree(levels: int = 16, children: int = 2_000) -> tuple[Dataset, bytes]:
    """A report whose content is 16 containers deep, with 2,000 leaves in the innermost one."""
    leaf = item(
        RelationshipType="CONTAINS", ValueType="CODE", ConceptNameCodeSequence=code(), ConceptCodeSequence=code()
    )
    content: list[Dataset] = [leaf] * children
    for _ in range(levels):
        content = [item(RelationshipType="CONTAINS", ValueType="CONTAINER", ContentSequence=content)]
    report = text_report()
    dataset = identity(Comprehensive3DSRStorage, "SR")
    dataset.ValueType = report.ValueType
    return dataset, encode(item(ContentSequence=content))


def private() -> tuple[Dataset, bytes]:
    """The CSA headers of Siemens, and a private sequence of unknown VR in Implicit VR Little Endian."""
    from pydicom.uid import ImplicitVRLittleEndian

    dataset = identity(CTImageStorage, "CT")
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", b"SV10\4\3\2\1" + bytes(range(256)) * 400)
    block.add_new(0x20, "OB", b"SV10\4\3\2\1" + bytes(range(256)) * 800)
    inner = encode(
        item(ReferencedImageSequence=[item(ReferencedSOPInstanceUID=generate_uid())] * 2_000), ImplicitVRLittleEndian
    )
    block.add_new(0x30, "UN", inner[8:])
    return dataset, b""


def segmentation(frames: int = 20_000) -> tuple[Dataset, bytes]:
    """The functional groups of 20,000 frames, each with its source image."""
    groups = item(
        DerivationImageSequence=[
            item(
                SourceImageSequence=[
                    item(
                        ReferencedSOPClassUID=CTImageStorage,
                        ReferencedSOPInstanceUID=generate_uid(),
                        PurposeOfReferenceCodeSequence=code(),
                        SpatialLocationsPreserved="YES",
                    )
                ],
                DerivationCodeSequence=code(),
            )
        ],
        FrameContentSequence=[item(DimensionIndexValues=[1, 1])],
        PlanePositionSequence=[item(ImagePositionPatient=[-100.0, -100.0, 30.0])],
        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
    )
    dataset = identity(SegmentationStorage, "SEG")
    dataset.NumberOfFrames = frames
    return dataset, repeated("PerFrameFunctionalGroupsSequence", groups, frames)


LARGE: dict[str, Callable[[], tuple[Dataset, bytes]]] = {
    "enhanced": enhanced,
    "structure set": structure_set,
    "report": tree,
    "private": private,
    "segmentation": segmentation,
}

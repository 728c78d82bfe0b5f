"""Frames of Enhanced multi-frame images as headers of single images with attributes of the classic IODs.

Everything behind this knows single images only. A frame keeps class and UID of the object it is stored in; Referenced
Frame Number (0008,1160) is its number there, the value that a reference to it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from node.studies.grid import numbers

_OF_ALL_FRAMES = frozenset({
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames",
    "DimensionIndexSequence", "DimensionOrganizationSequence",
})  # fmt: skip
_MOST_FRAMES = 5000
"""Frames of a multi-frame image without functional groups: a few bytes can state any number."""
_FRAME_TYPE = ("FrameType", "PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique")
_MACROS = {
    # PS3.3 C.7.6.16.2, of every modality
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "FrameContentSequence": (
        "FrameAcquisitionNumber", "FrameReferenceDateTime", "FrameAcquisitionDateTime", "FrameAcquisitionDuration",
        "TemporalPositionIndex", "StackID", "InStackPositionNumber",
    ),
    "FrameAnatomySequence": ("FrameLaterality", "AnatomicRegionSequence"),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"),
    # C.8.15.3, CT
    "CTImageFrameTypeSequence": _FRAME_TYPE,
    "CTAcquisitionDetailsSequence": (
        "RotationDirection", "RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth", "TableHeight",
        "GantryDetectorTilt", "DataCollectionDiameter",
    ),
    "CTReconstructionSequence": (
        "ReconstructionAlgorithm", "ConvolutionKernel", "ConvolutionKernelGroup", "ReconstructionDiameter",
        "ImageFilter",
    ),
    "CTExposureSequence": (
        "ExposureTimeInms", "XRayTubeCurrentInmA", "ExposureInmAs", "ExposureModulationType", "CTDIvol",
    ),
    "CTXRayDetailsSequence": ("KVP", "FocalSpots", "FilterType", "FilterMaterial"),
    # C.8.13.5, MR
    "MRImageFrameTypeSequence": (*_FRAME_TYPE, "ComplexImageComponent", "AcquisitionContrast"),
    "MRTimingAndRelatedParametersSequence": (
        "RepetitionTime", "FlipAngle", "EchoTrainLength", "RFEchoTrainLength", "GradientEchoTrainLength",
    ),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": (
        "InversionRecovery", "InversionTimes", "FlowCompensation", "FlowCompensationDirection", "Spoiling",
        "T2Preparation", "SpectrallySelectedExcitation", "SpatialPresaturation", "PartialFourier",
        "PartialFourierDirection", "ParallelAcquisition", "ParallelReductionFactorInPlane",
    ),
    "MRImagingModifierSequence": (
        "MagnetizationTransfer", "BloodSignalNulling", "Tagging", "TransmitterFrequency", "PixelBandwidth",
    ),
    "MRReceiveCoilSequence": ("ReceiveCoilName", "ReceiveCoilType"),
    "MRFOVGeometrySequence": (
        "InPlanePhaseEncodingDirection", "MRAcquisitionFrequencyEncodingSteps", "PercentSampling",
        "PercentPhaseFieldOfView",
    ),
    "MRAveragesSequence": ("NumberOfAverages",),
    "MRDiffusionSequence": ("DiffusionBValue", "DiffusionDirectionality"),
    # C.8.22.5, PET
    "PETFrameTypeSequence": _FRAME_TYPE,
}  # fmt: skip
"""Functional groups that describe a frame, and what a frame takes from each: nothing that says whose image it is, or
which one. Private groups and those of other objects, source images for example, hold UIDs and names of their own."""


def _tags(macros: Mapping[str, tuple[str, ...]]) -> dict[BaseTag, tuple[BaseTag, ...]]:
    return {Tag(sequence): tuple(map(Tag, keywords)) for sequence, keywords in macros.items()}


_TAGS = _tags(_MACROS)


def split_frames(header: Dataset) -> tuple[Dataset, ...]:
    """One header per frame, in stored order; as it is an image without functional groups of as many frames as it has.

    The attributes of the frame's functional groups stand at the top level, its own before the shared ones.
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    frames_stated = numbers(header, "NumberOfFrames", 1)
    if not per_frame or frames_stated is None or int(frames_stated[0]) != len(per_frame):
        return (header,)
    whole = Dataset()
    for element in header:
        if element.keyword not in _OF_ALL_FRAMES:
            whole.add(element)
    _take(whole, header.get("SharedFunctionalGroupsSequence") or Sequence())
    frames = []
    for number, item in enumerate(per_frame, 1):
        frame = Dataset()
        frame.update(whole)
        _take(frame, Sequence([item]))
        if frame.get("FrameType"):
            frame.add_new("ImageType", "CS", frame.FrameType)
        frame.add_new("InstanceNumber", "IS", number)  # new ones: elements are shared with the other frames
        frame.add_new("ReferencedFrameNumber", "IS", number)
        if hasattr(header, "file_meta"):
            frame.file_meta = header.file_meta
        frames.append(frame)
    return tuple(frames)


def split_plain_frames(header: Dataset) -> tuple[Dataset, ...]:
    """One header per frame of a multi-frame image without functional groups, such as a cine loop; else as it is.

    Frames differ in Referenced Frame Number alone.
    """
    stated = numbers(header, "NumberOfFrames", 1)
    if stated is None or not 1 < stated[0] <= _MOST_FRAMES or "PerFrameFunctionalGroupsSequence" in header:
        return (header,)
    frames = []
    for number in range(1, int(stated[0]) + 1):
        frame = Dataset()
        frame.update(header)
        del frame.NumberOfFrames
        frame.add_new("ReferencedFrameNumber", "IS", number)
        if hasattr(header, "file_meta"):
            frame.file_meta = header.file_meta
        frames.append(frame)
    return tuple(frames)


def _take(frame: Dataset, items: Sequence) -> None:
    for group, tags in _groups(items):
        for tag in tags:
            if tag in group:
                frame[tag] = group[tag]


def _groups(items: Sequence) -> Iterator[tuple[Dataset, tuple[BaseTag, ...]]]:
    """The known macros of one functional groups item; a macro of several items speaks of no single value."""
    for item in items[:1]:
        for sequence, tags in _TAGS.items():
            if sequence in item and len(item[sequence].value) == 1:
                yield item[sequence].value[0], tags

"""Single-frame images from frames of Enhanced CT and MR, because every viewer and archive shows the classic IODs."""

from __future__ import annotations

from copy import deepcopy

from pydicom import Dataset

from node.errors import EncodeError
from node.results.headers import single_image_class

_PULSES = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}


def single_image(frame: Dataset) -> Dataset:
    """Header of a CT or MR Image (PS3.3 A.3, A.4) that says what ``frame`` says, a header as ``split_frames`` makes.

    Raises ``EncodeError`` for a frame of any other class.
    """
    image = deepcopy(frame)
    image.SOPClassUID = single_image_class(frame)
    if image.SOPClassUID == frame.SOPClassUID:
        raise EncodeError(
            f"{frame.SOPInstanceUID} is a multi-frame object of class {frame.SOPClassUID.name}; derived images are "
            "made of Enhanced CT and MR only: exclude this series by a rule"
        )
    del image.ReferencedFrameNumber
    image.ImageType = [*list(frame.get("ImageType") or ["", ""])[:2], "AXIAL" if frame.Modality == "CT" else "OTHER"]
    if frame.Modality == "MR":
        _set_sequence(image)
    return image


def _set_sequence(image: Dataset) -> None:
    """Scanning Sequence and Sequence Variant (PS3.3 C.8.3.1) from MR Pulse Sequence and MR Modifier (C.8.13.4-5)."""
    sequence = list(_PULSES.get(str(image.get("EchoPulseSequence", "")), []))
    if image.get("InversionRecovery") == "YES" or image.get("InversionTime") is not None:
        sequence.append("IR")
    if image.get("EchoPlanarPulseSequence") == "YES":
        sequence.append("EP")
    variants = (
        ("SegmentedKSpaceTraversal", ("PARTIAL", "FULL"), "SK"),
        ("MagnetizationTransfer", ("ON_RESONANCE", "OFF_RESONANCE", "BOTH"), "MTC"),
        ("SteadyStatePulseSequence", ("FREE_PRECESSION", "TRANSVERSE", "TIME_REVERSED", "LONGITUDINAL"), "SS"),
        ("Spoiling", ("RF", "GRADIENT", "RF_AND_GRADIENT"), "SP"),
        ("OversamplingPhase", ("2D", "3D", "2D_3D"), "OSP"),
    )
    image.ScanningSequence = sequence or ["RM"]  # research mode: the header does not say
    image.SequenceVariant = [code for keyword, on, code in variants if image.get(keyword) in on] or ["NONE"]
    if image.get("EffectiveEchoTime") is not None:
        image.EchoTime = image.EffectiveEchoTime

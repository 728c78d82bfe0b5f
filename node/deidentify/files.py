"""De-identification of one file, in a confined process; what would be sent is read again and searched."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, config, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from node.deidentify.bits_stored import check_bits_stored
from node.deidentify.bulk_data import misplaced, remove_misplaced
from node.deidentify.burned_in import PIXELS, may_have_text, objection
from node.deidentify.deidentifier import Deidentifier
from node.deidentify.frame_data import clean_codestreams, cut_to_frames
from node.deidentify.identifiers import Identifiers, identifiers_of, traces
from node.deidentify.pixel_masks import blank, mask_of
from node.deidentify.profile import BASIC
from node.deidentify.profile_of_destination import VISUAL_FEATURES, Identity, Profile
from node.deidentify.pseudonyms import Pseudonyms
from node.deidentify.source_images import SourceImage
from node.deidentify.text_recognition import places_with_text
from node.deidentify.visual_features import remove_surface
from node.errors import GateError, InputError, NodeError
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE

_CLEAN_PIXELS = "clean pixel data"
_MOST_TRACES = 5


def deidentify_file(
    path: Path, profile: Profile, to: Path, series: tuple[SourceImage, ...], *, is_result: bool
) -> Identity:
    """Write the de-identified object at ``path`` to ``to``; return its UIDs.

    ``series``: the images of which it is one, or of which it was made; needed to remove faces.

    Raises ``GateError`` when it must not be sent: it may have text in its pixels, or something of its identity is left.
    ``InputError`` when it cannot be read. No message has a value of the object.
    """
    try:
        with config.disable_value_validation():
            dataset = dcmread(path)
            return _written(dataset, profile, to, series, is_result=is_result)
    except NodeError:
        raise
    except (*NOT_DICOM, *UNDECODABLE) as error:
        raise InputError(f"the object cannot be de-identified ({type(error).__name__})") from None


def _written(
    dataset: FileDataset, profile: Profile, to: Path, series: tuple[SourceImage, ...], *, is_result: bool
) -> Identity:
    options = frozenset(profile.options)
    mask = None if is_result else mask_of(dataset, profile.masks)
    clean = _CLEAN_PIXELS in options
    if why := objection(dataset, is_result=is_result, clean_pixel_data=clean, is_masked=mask is not None):
        raise GateError(f"not sent to a destination with de-identification: {why}")
    remove_misplaced(dataset)
    cut_to_frames(dataset)
    if mask is not None:
        blank(dataset, mask)
        options |= {_CLEAN_PIXELS}
    check_bits_stored(dataset)
    clean_codestreams(dataset)  # after a mask, which decodes images in colour by their application segments
    if profile.read_text and not is_result and (mask is not None or may_have_text(dataset)):
        _check_text(dataset)
    clean_pixels = remove_surface(dataset, series, is_result=is_result) if VISUAL_FEATURES in options else None
    identifiers = identifiers_of(dataset, options, is_result=is_result)
    pixels = [dataset.get(keyword) for keyword in PIXELS]
    pseudonyms = Pseudonyms(profile.key, profile.destination)
    Deidentifier(pseudonyms, options, identifiers.names, identifiers.texts).apply(dataset)
    if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(to, enforce_file_format=True)
    sent = to.read_bytes()
    again = dcmread(to)
    _check(sent, again, identifiers)
    if [again.get(keyword) for keyword in PIXELS] != pixels:
        raise GateError("not sent: its pixels differ from those of the source")
    if clean_pixels is not None and not clean_pixels.are_in(again):
        raise GateError("not sent: pixels are left where the surface of the body was to be removed")
    return _identity(again)


def _check_text(dataset: FileDataset) -> None:
    """Raise ``GateError`` when text is read in the pixels."""
    if str(dataset.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        raise GateError("not sent to a destination with de-identification: text in palette colour cannot be read")
    if number := places_with_text(dataset):
        raise GateError(
            "not sent to a destination with de-identification: text is read in its pixels, in "
            f"{number} place{'s' if number > 1 else ''}; state where this device writes it in [[deidentify.masks]]"
        )


def _check(sent: bytes, dataset: FileDataset, identifiers: Identifiers) -> None:
    """Raise ``GateError`` unless the file states that it is de-identified and has nothing of the source's identity."""
    codes = {str(code.get("CodeValue", "")) for code in dataset.get("DeidentificationMethodCodeSequence") or ()}
    if dataset.get("PatientIdentityRemoved") != "YES" or BASIC[0] not in codes:
        raise GateError("not sent: it does not state that and how it was de-identified")
    if any(misplaced(dataset)):
        raise GateError("not sent: after de-identification it still has pictures or lines where its IOD has none")
    remains = sorted(set(traces(sent, dataset, identifiers)))
    if remains:
        more = f" and {len(remains) - _MOST_TRACES} more" if len(remains) > _MOST_TRACES else ""
        raise GateError(f"not sent: after de-identification it still has {', '.join(remains[:_MOST_TRACES])}{more}")


def _identity(dataset: Dataset) -> Identity:
    meta = getattr(dataset, "file_meta")  # noqa: B009 - of FileDataset
    return Identity(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
    )

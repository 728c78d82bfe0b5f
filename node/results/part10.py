"""Built data sets as Part 10 files with identity, equipment and time."""

from __future__ import annotations

from io import SEEK_END, BufferedReader, BytesIO

from pydicom import Dataset, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID, ExplicitVRLittleEndian

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.results.analysis import Analysis
from node.results.equipment import MANUFACTURER, equipment, serial_number, software_versions
from node.results.identity import Identity, plain


def finish(dataset: Dataset, analysis: Analysis, identity: Identity) -> bytes:
    """Stamp identity, equipment and time on a built object and return it as a Part 10 file."""
    moment = identity.local(analysis.analysed_at)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    content = next((of for of in ("PresentationCreation", "StructureSet") if f"{of}Date" in dataset), "Content")
    for prefix in ("InstanceCreation", content, "Series"):
        setattr(dataset, f"{prefix}Date", date)
        setattr(dataset, f"{prefix}Time", time)
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = plain(analysis.algorithm.name)
    dataset.SoftwareVersions = software_versions(analysis)
    dataset.DeviceSerialNumber = serial_number(analysis)
    contributors = list(dataset.get("ContributingEquipmentSequence") or [])
    for item in contributors:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    dataset.ContributingEquipmentSequence = [*contributors, equipment(analysis, moment)]
    encoded = [e for e in dataset.elements() if isinstance(e, RawDataElement) and e.VR == "SQ"]
    for element in encoded:  # frames of a SEG, in thousands: they are right, and need not be taken apart
        del dataset[element.tag]
    correct_ambiguous_vr(dataset, is_little_endian=True)
    for element in encoded:
        dataset[element.tag] = element
    identity.stamp(dataset)
    # pydicom writes undecoded elements as they are only when it believes the dataset's encoding to be unchanged.
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=dataset._character_set,  # noqa: SLF001
    )
    meta = getattr(dataset, "file_meta", None)
    syntax = ExplicitVRLittleEndian if meta is None else meta.TransferSyntaxUID
    dataset.file_meta = FileMetaDataset()  # fresh: the source's names its own sender and software
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    pixels = dataset.get("PixelData")
    if isinstance(pixels, bytes):  # written from where they lie: pydicom copies what is not buffered once more
        dataset["PixelData"].value = BytesIO(pixels)
    buffer = BytesIO()
    if isinstance(pixels, BufferedReader):  # room for all at once: growing step by step ends with an eighth too much
        buffer.seek(pixels.seek(0, SEEK_END) * 17 // 16)
        buffer.write(b"\0")
        buffer.seek(pixels.seek(0))
    dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.truncate()
    return buffer.getvalue()
